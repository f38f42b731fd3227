"""What is wrong with the settings of a training, all of it at once, each by its name."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from maquette.conditions.registry import detector_spec
from maquette.diorama.constants import CONDITIONS
from maquette.errors import MaquetteError
from maquette.foundation.declared import Setting
from maquette.foundation.registry import nearest

Problem = tuple[str, str]  # a setting's flat name, and what is wrong with it


def problems_of(given: Mapping[str, Any], known: Mapping[str, Setting]) -> Iterator[Problem]:
    """Of settings by flat name (some may be missing), each as it was declared, and of how they meet."""
    found = {flat: known[flat].problem(value) for flat, value in given.items()}
    yield from ((flat, words) for flat, words in found.items() if words is not None)
    yield from _together({flat: value for flat, value in given.items() if found[flat] is None})


def _draws(condition: Any) -> bool:
    try:
        return not detector_spec(condition).outputs_text
    except MaquetteError:
        return False


def _together(given: Mapping[str, Any]) -> Iterator[Problem]:
    """What is sound alone and not together."""
    condition, data = given.get("condition"), given.get("data")
    if data is None and "condition" in given and condition not in CONDITIONS:
        yield "condition", f"cannot be {condition!r} on the diorama{nearest(condition, list(CONDITIONS))}"
    if given.get("detect") and data is not None and not _draws(condition):
        yield "detect", f"needs the name of a detector that draws, for the condition, not {condition!r}"
    if given.get("reconnect") is not None and given.get("connect") == "all":
        yield "reconnect", 'needs connect = "middle", which it ends'
    if given.get("reconnect") == "converged" and given.get("evaluate_every") == 0:
        yield "reconnect", "when the condition has taken hold needs evaluate_every above 0"
    for name in ("stop_after", "keep_best"):
        if given.get(name) is not None and given[name] is not False and given.get("evaluate_every") == 0:
            yield name, "needs evaluate_every above 0"
    if given.get("shard") and given.get("precision") == "float16":
        yield "shard", 'takes the precision "bfloat16" or "float32"'
    if given.get("shard") and given.get("ema"):
        yield "shard", "and ema do not go together"
    if given.get("shard") and given.get("optimizer_name") == "adamw8bit":
        yield "shard", 'takes the optimizer "adamw"'
    if given.get("keep_best") and given.get("unlock"):
        yield "keep_best", "and unlock do not go together: the base is not kept with each measurement"
    if given.get("keep_best") and given.get("reconnect") is not None:
        yield "keep_best", "and reconnect do not go together: the best may be of the stage before"
    if given.get("start_from") is not None:
        for name, usual in (("variant", "zero"), ("encoder", "release")):
            if given.get(name) != usual:
                yield name, "is brought by start_from; leave it out"
    if given.get("detect") and given.get("condition_column") is not None:
        yield "condition_column", "names what detect draws; give one of them"
    if given.get("flip") and condition in ("normal", "pose"):
        yield "flip", f"mirrors images, and not what the colours of {condition} mean; leave it out"


def without_effect(items: Iterable[tuple[Setting, Any]]) -> list[str]:
    """Sentences on settings that were given and do nothing.

    Args:
        items: of a training that was checked.
    """
    settings = list(items)
    values = {one.flat: value for one, value in settings}
    changed = {one.flat for one, value in settings if value != one.default}
    idle = [one for one, _ in settings if one.flat in changed and one.needs and not values[one.needs]]
    words = [f"{one.flat} has no effect without {one.needs}." for one in idle]
    if values["data"] and "scenes" in changed:
        words.append("scenes has no effect with data of one's own.")
    for name in ("reconnect", "unlock_at"):
        if isinstance(values[name], int) and values[name] >= values["max_steps"]:
            words.append(f"{name} has no effect at {values[name]}, after the last step.")
    return words
