"""Check the arguments of a generation against the base and the controls before computing anything."""

import warnings
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from maquette.base import Base
from maquette.controlnet.control import Control
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.sampling.config import Sampling


def check_start(image: Image.Image | None, mask: Image.Image | None) -> None:
    """Check that a mask comes with a start image.

    Raises `MaquetteError` for a mask without one.
    """
    if mask is not None and image is None:
        raise MaquetteError("A mask says which part of a start image may change; give image= too.")


def check_controls(base: Base, controls: Sequence[Control] | Control) -> list[Control]:
    """One or several controls as a list, each checked against the base.

    Raises `MaquetteError` for a control of another base, on another device or of another dtype, and for a condition
    outside the range that the control was trained on.
    """
    controls = [controls] if isinstance(controls, Control) else list(controls)
    for number, control in enumerate(controls, start=1):
        if not isinstance(control, Control):
            raise MaquetteError(f"controls is a list of Control(net, condition), not of {type(control).__name__}.")
        if not control.net.fits(base.backbone):
            widths = [sorted({slot.channels for slot in slots}) for slots in (control.net.slots, base.backbone.slots)]
            raise MaquetteError(
                f"Control {number} of {len(controls)} is made for another base: its residuals have widths "
                f"{widths[0]} and its text width {control.net.text.width}, the base {base.name!r} has {widths[1]} "
                f"and {base.backbone.text.width}; use controls that were trained on this base."
            )
        contract, condition = control.net.contract, control.condition
        low, high = contract.condition_range
        if contract.stated and isinstance(condition, Tensor) and not low <= condition.min() <= condition.max() <= high:
            raise MaquetteError(
                f"Control {number} of {len(controls)} was trained on conditions from {low:g} to {high:g} and is given "
                f"{float(condition.min()):g} to {float(condition.max()):g}; scale them to its range."
            )
        cast = torch.is_autocast_enabled(base.offload_device.type)  # in training: each operation picks its dtype
        if control.net.device != base.offload_device or (control.net.dtype != base.dtype and not cast):
            raise MaquetteError(
                f"Control {number} of {len(controls)} is in {control.net.dtype} on {control.net.device}, the base in "
                f"{base.dtype} on {base.offload_device}; move it with net.to({base.offload_device.type!r}, "
                f"{base.dtype})."
            )
    return controls


def warn_of_unused(sampling: Sampling, controls: list[Control], started: bool, negative: bool) -> None:
    """Warn of every setting that has no effect.

    Args:
        started: whether there is a start image.
        negative: whether there is a negative prompt.
    """
    steps = sampling.steps_taken(started)
    notes = {
        "strength has no effect without a start image (image=)": sampling.strength != 1 and not started,
        "condition_in has no effect without controls": sampling.condition_in != "both" and not controls,
        "resolution_weights has no effect unless condition_in is 'weighted'": (
            sampling.resolution_weights != "normalised" and sampling.condition_in != "weighted"
        ),
        "negative_prompt has no effect at a guidance of 1": negative and sampling.guidance == 1,
    }
    for number, control in enumerate(controls, start=1):
        idle = control.weight != 0 and not any(control.active(step, steps) for step in range(steps))
        reason = f"none of the {steps} steps lies between {control.start:g} and {control.end:g}"
        notes[f"control {number} of {len(controls)} has no effect: {reason}"] = idle
    for note, applies in notes.items():
        if applies:
            warnings.warn(f"{note[0].upper()}{note[1:]}.", MaquetteWarning, stacklevel=3)
