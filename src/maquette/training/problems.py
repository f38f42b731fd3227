"""What is wrong with the settings of a training, all of it at once, each by its name."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from maquette.conditions.registry import detector_spec
from maquette.diorama.constants import CONDITIONS
from maquette.errors import MaquetteError
from maquette.foundation.registry import nearest
from maquette.foundation.settings import problem

Problem = tuple[str, str]  # a setting's name, and what is wrong with it

LEAST = {
    "scenes": 1, "shuffle_window": 1, "workers": 0, "max_steps": 1, "batch_size": 1, "accumulation": 1, "warmup": 0,
    "reconnect": 1, "unlock_at": 0, "evaluate_every": 0, "held_out": 1, "stop_after": 0, "checkpoint_every": 1,
    "seed": 0, "size": 64,
}  # fmt: skip
SHARES = ("prompt_drop", "condition_drop", "flip", "broken")
POSITIVE = ("learning_rate", "clip", "unlock_learning_rate")


NEEDS = {
    **dict.fromkeys(("picture_column", "condition_column", "text_column", "detect", "size", "buckets"), "data"),
    **dict.fromkeys(("crop", "flip", "categorical", "broken", "shuffle_window"), "data"),
    **dict.fromkeys(("unlock_at", "unlock_learning_rate"), "unlock"),
    "cache_folder": "cache", "held_out": "evaluate_every",
}  # fmt: skip
"""Settings that do nothing while another is off."""


def problems_of(given: Mapping[str, Any], settings: type) -> Iterator[Problem]:
    """Of settings by name (some may be missing) by the types of the class that holds them, and of how they meet."""
    hints = get_type_hints(settings)
    sound = set()
    for name, value in given.items():
        words = _problem(name, value, hints[name])
        if words is None:
            sound.add(name)
        else:
            yield name, words
    yield from _together({name: given[name] for name in sound})


def _problem(name: str, value: Any, hint: Any) -> str | None:
    if name == "size":
        return _size(value)
    if name in SHARES:
        return problem(value, hint, 0, 1)
    words = problem(value, hint, LEAST.get(name, 0))
    if words is None and name in POSITIVE and value == 0:
        return "is above 0"
    if words is None and name == "ema" and value >= 1:
        return "is below 1: a decay"
    return words


def _size(value: Any) -> str | None:
    pair = list(value) if isinstance(value, list | tuple) and len(value) == 2 else [value]
    if value is not None and any(problem(one, int, LEAST["size"]) for one in pair):
        return f"is a whole number of {LEAST['size']} or more, or two, not {value!r}"
    return f"is a multiple of 64 pixels, not {value!r}" if value and any(one % 64 for one in pair) else None


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
    if given.get("shard") and given.get("optimiser") == "adamw8bit":
        yield "shard", 'takes the optimiser "adamw"'
    if given.get("keep_best") and given.get("unlock"):
        yield "keep_best", "and unlock do not go together: the base is not kept with each measurement"
    if given.get("keep_best") and given.get("reconnect") is not None:
        yield "keep_best", "and reconnect do not go together: the best may be of the stage before"
    if given.get("start_from") is not None:
        for name, usual in (("kind", "zero"), ("encoder", "release")):
            if given.get(name) != usual:
                yield name, "is brought by start_from; leave it out"
    if given.get("detect") and given.get("condition_column") is not None:
        yield "condition_column", "names what detect draws; give one of them"
    if given.get("flip") and condition in ("normal", "pose"):
        yield "flip", f"mirrors pictures, and not what the colours of {condition} mean; leave it out"


def without_effect(config: Any) -> list[str]:
    """Sentences on settings that were given and do nothing."""
    usual = {field.name: field.default for field in fields(config)}
    found = [
        name for name, other in NEEDS.items() if getattr(config, name) != usual[name] and not getattr(config, other)
    ]
    words = [f"{name} has no effect without {NEEDS[name]}." for name in found]
    if config.data and config.scenes != usual["scenes"]:
        words.append("scenes has no effect with data of one's own.")
    for name in ("reconnect", "unlock_at"):
        if isinstance(getattr(config, name), int) and getattr(config, name) >= config.max_steps:
            words.append(f"{name} has no effect at {getattr(config, name)}, after the last step.")
    return words
