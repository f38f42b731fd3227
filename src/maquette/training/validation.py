"""Validation of training settings: all problems at once, each with the setting's name."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from maquette.conditions.registry import detector_spec
from maquette.controlnet.choices import BY_ITSELF
from maquette.diorama.constants import CONDITIONS, DETECTED
from maquette.errors import MaquetteError
from maquette.foundation.declared import Setting
from maquette.foundation.registry import nearest
from maquette.training.monitor.dating import LEAST_MEASUREMENTS

Problem = tuple[str, str]  # a setting's flat name, and the problem


def problems_of(values: Mapping[str, Any], known: Mapping[str, Setting]) -> Iterator[Problem]:
    """The problems of settings by flat name (some may be missing): first of single values, then of combinations."""
    found = {flat: known[flat].problem(value) for flat, value in values.items()}
    yield from ((flat, problem) for flat, problem in found.items() if problem is not None)
    yield from _conflicts({flat: value for flat, value in values.items() if found[flat] is None})


def _outputs_image(condition: Any) -> bool:
    """Whether the condition names a detector of condition maps."""
    try:
        return not detector_spec(condition).outputs_text
    except MaquetteError:
        return False


def _conflicts(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Conflicts between values that are valid by themselves."""
    condition, data = values.get("condition"), values.get("data")
    if data is None and "condition" in values and condition not in CONDITIONS:
        yield "condition", f"cannot be {condition!r} on the diorama{nearest(condition, list(CONDITIONS))}"
    if values.get("detect") and data is not None and not _outputs_image(condition):
        yield "detect", f"needs a condition that names a detector of maps, not {condition!r}"
    yield from _unfit_detector(values)
    if values.get("reconnect") is not None and values.get("connect") == "all":
        yield "reconnect", 'needs connect = "middle", which it ends'
    if values.get("reconnect") == "converged" and values.get("evaluate_every") == 0:
        yield "reconnect", '= "converged" needs evaluate_every above 0'
    for name in ("stop_after", "keep_best"):
        if values.get(name) is not None and values[name] is not False and values.get("evaluate_every") == 0:
            yield name, "needs evaluate_every above 0"
    if values.get("shard") and values.get("precision") == "float16":
        yield "shard", 'needs precision = "bfloat16" or "float32"'
    if values.get("shard") and values.get("ema"):
        yield "shard", "and ema cannot be combined"
    if values.get("unlock") and values.get("optimizer_name") == "muon":
        yield "unlock", 'needs another optimizer.name than "muon", which has no rate for the base'
    if values.get("shard") and values.get("optimizer_name") in ("adamw8bit", "muon"):
        yield "shard", 'needs optimizer.name = "adamw"'
    if values.get("keep_best") and values.get("unlock"):
        yield "keep_best", "and unlock cannot be combined: the base is not saved with each evaluation"
    if values.get("keep_every") and values.get("unlock"):
        yield "keep_every", "and unlock cannot be combined: the base is not saved with each ControlNet"
    if values.get("keep_best") and values.get("reconnect") is not None:
        yield "keep_best", "and reconnect cannot be combined: the best weights may be from before the reconnection"
    if values.get("start_from") is not None:
        for name, usual in (("variant", "zero"), ("encoder", "release"), ("blocks", None)):
            if values.get(name, usual) != usual:
                yield name, "is determined by start_from; leave it out"
    if (variant := values.get("variant")) in BY_ITSELF:
        plain = {"encoder": "release", "connect": "all", "unlock": None, "reconnect": None}
        for name in plain:
            if values.get(name) not in (plain[name], None):
                yield name, f'is of ControlNets, and variant = "{variant}" is none; leave it out'
    if values.get("detect") and values.get("condition_column") is not None:
        yield "condition_column", "and detect both provide the condition; set only one of them"
    if values.get("detect") and values.get("palette") is not None:
        yield "palette", "is of condition maps that are read, and detect computes them; set only one of them"
    if values.get("flip") and condition in ("normal", "pose", "pose_pifpaf"):
        yield "flip", f"mirrors images but not the meaning of the colours of {condition}; leave it out"


def detects(condition: Any, source: Any, detect: Any) -> bool:
    """Whether conditions are computed from the images, by a detector whose options may be set."""
    return condition in DETECTED if source is None else bool(detect)


def _unfit_detector(values: Mapping[str, Any]) -> Iterator[Problem]:
    condition = values.get("condition")
    is_detected = detects(condition, values.get("data"), values.get("detect"))
    if not is_detected or not _outputs_image(condition):
        return
    from maquette.data.random_detectors import random_detector  # loads OpenCV

    try:
        detector_spec(str(condition)).check_weights(values.get("detect_weights"))
    except MaquetteError as error:
        yield "detect_weights", f"cannot be used: {str(error).rstrip('.')}"
    try:
        random_detector(str(condition), values.get("detect_options"))
    except MaquetteError as error:
        yield "detect_options", f"cannot be drawn: {str(error).rstrip('.')}"
    if values.get("detect_device") not in (None, "cpu") and values.get("workers"):
        yield "detect_device", "other than cpu needs workers = 0, since worker processes share no device"


def without_effect(items: Iterable[tuple[Setting, Any]]) -> list[str]:
    """Warnings about settings that were changed but have no effect.

    Args:
        items: the settings of a valid configuration.
    """
    settings = list(items)
    values = {declared.flat: value for declared, value in settings}
    changed = {declared.flat for declared, value in settings if value != declared.default}
    idle = [s for s, _ in settings if s.flat in changed and s.needs and not values[s.needs]]
    messages = [f"{s.flat} has no effect without {s.needs}." for s in idle]
    if values["data"] and "scenes" in changed:
        messages.append("scenes has no effect with custom data.")
    if not detects(values["condition"], values["data"], values["detect"]):
        why = "without detect" if values["data"] else f"on the diorama's {values['condition']}, which is exact"
        messages += [f"{name} has no effect {why}." for name in sorted(changed) if name.startswith("detect_")]
    if "prompt_conflict" in changed and values["prompt_drop"] == 1:
        messages.append("prompt_conflict has no effect with prompt_drop = 1: no prompt is left.")
    if "cache_folder" in changed and values["crop"] == "random" and not values["buckets"]:
        messages.append("cache_folder has no effect with random crops, which are not cached.")
    for name in ("reconnect", "unlock_at"):
        if isinstance(values[name], int) and values[name] >= values["max_steps"]:
            messages.append(f"{name} has no effect at {values[name]}, after the last step.")
    every = values["evaluate_every"]
    measurements = 1 + values["max_steps"] // every if every else 0
    waits = [s.flat for s, value in settings if (s.flat == "stop_after" and value is not None) or value == "converged"]
    if 0 < measurements < LEAST_MEASUREMENTS:
        messages += [
            f"{name} has no effect with {measurements} evaluations: convergence settles with {LEAST_MEASUREMENTS} or "
            "more; set a smaller evaluate_every."
            for name in waits
        ]
    return messages
