"""Check the arguments of a generation against the base and the controls before computing anything."""

import warnings
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from maquette.backbones.reuse import SURE
from maquette.base import Base
from maquette.conditions.labels import palette_of, seem_numbers
from maquette.controlnet.control import Control
from maquette.controlnet.maps import Picture, map_size, read_mask, read_picture
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.images import as_rgb
from maquette.sampling.config import Sampling
from maquette.sampling.speed import WHOLE, in_interval

LARGEST_ENLARGEMENT = 2  # of a condition map without a warning


def read_start(image: Picture | None, mask: Picture | None) -> tuple[Image.Image | None, Image.Image | None]:
    """The start image and its mask, read.

    Raises `MaquetteError` for a mask without a start image, and for what is not an image.
    """
    if mask is not None and image is None:
        raise MaquetteError("A mask says which part of a start image may change; give image= too.")
    return (
        None if image is None else read_picture(image, "start image"),
        None if mask is None else read_mask(mask),
    )


def check_controls(base: Base, controls: Sequence[Control] | Control) -> list[Control]:
    """One or several controls as a list, each checked against the base.

    Raises `MaquetteError` for a control of another base, on another device or of another dtype, for another number of
    weights than the base has slots, and for a condition outside the range that the control was trained on.
    """
    if not isinstance(controls, Sequence | Control):
        raise MaquetteError(
            f"controls is a Control(net, condition) or a list of them, empty for none, not {type(controls).__name__}."
        )
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
        if control.net.runs_another(base.backbone):
            raise MaquetteError(
                f"Control {number} of {len(controls)} runs parts of its base, and was loaded for another than "
                f"{base.name!r}; load it for this one."
            )
        if control.net.control.types:
            control.net.contract.type_number(control.type)
        slots = len(base.backbone.slots)
        if isinstance(control.weight, Sequence) and len(control.weight) != slots:
            raise MaquetteError(
                f"Control {number} of {len(controls)} has a list of {len(control.weight)} weights; the base "
                f"{base.name!r} has {slots} slots, shallow to deep and the middle last: give {slots} weights."
            )
        contract, condition = control.net.contract, control.maps
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


def warn_of_unused(
    sampling: Sampling, controls: list[Control], started: bool, masked: bool, negative: bool, distilled: bool
) -> None:
    """Warn of every setting that has no effect.

    Args:
        distilled: whether the base takes a scale of distilled guidance.
        started, masked: whether there is a start image, and a mask on it.
        negative: whether there is a negative prompt.
    """
    steps, unguided = sampling.steps_taken(started), sampling.guidance == 1
    notes = {
        "strength has no effect without a start image (image=)": sampling.strength != 1 and not started,
        "distilled_guidance has no effect: this base takes no scale of guidance": (
            sampling.distilled_guidance is not None and not distilled
        ),
        "feather has no effect without a mask (mask=)": sampling.feather is not None and not masked,
        "condition_in has no effect without controls": sampling.condition_in != "both" and not controls,
        "condition_in has no effect at a guidance of 1, where there is one branch": (
            sampling.condition_in == "conditional" and unguided and bool(controls)
        ),
        "resolution_weights has no effect unless condition_in is 'weighted'": (
            sampling.resolution_weights != "normalised" and sampling.condition_in != "weighted"
        ),
        "negative_prompt has no effect at a guidance of 1": negative and unguided,
        "guidance_interval has no effect at a guidance of 1": sampling.guidance_interval != WHOLE and unguided,
        "guidance has no effect: none of the {} steps lies between {:g} and {:g}, its guidance_interval".format(
            steps, *sampling.guidance_interval
        ): not unguided and not any(in_interval(sampling.guidance_interval, step, steps) for step in range(steps)),
        f"reuse has no effect in {steps} step{'s' * (steps > 1)}: the first {SURE} always run whole": (
            sampling.reuse > 1 and steps <= SURE
        ),
        "decoder='tiny' has no effect on latents (returns='latents')": (
            sampling.decoder == "tiny" and sampling.returns == "latents"
        ),
        "at a guidance of 0 the prompt has no effect: give 1 to turn guidance off": sampling.guidance == 0,
    }
    for number, control in enumerate(controls, start=1):
        name = f"control {number} of {len(controls)}"
        untold = control.type is not None and not control.net.control.types
        notes[f"the type {control.type!r} of {name} has no effect: its ControlNet follows one kind of condition"] = (
            untold
        )
        notes |= {f"{name} has no effect: {reason}": idle for reason, idle in _reasons(control, steps).items()}
        alone = control.branch == "conditional" or control.balance == "control"
        notes[f"without guidance, at 1, there is one branch: {name} acts as in both"] = unguided and alone
    for note, applies in notes.items():
        if applies:
            warnings.warn(f"{note[0].upper()}{note[1:]}.", MaquetteWarning, stacklevel=3)


def _reasons(control: Control, steps: int) -> dict[str, bool]:
    """Why a control would have no effect in so many steps, and whether it is so; one turned off says so itself."""
    inside = [step for step in range(steps) if control.in_range(step, steps)]
    on = any(control.weight) if isinstance(control.weight, Sequence) else control.weight != 0
    return {
        f"none of the {steps} steps lies between {control.start:g} and {control.end:g}": on and not inside,
        "its curve is 0 in all of its steps": (
            on and bool(inside) and not any(control.active(step, steps) for step in inside)
        ),
        "its mask is black everywhere": control.region is not None and not control.region.getbbox(),
    }


def warn_of_maps(controls: list[Control], size: tuple[int, int]) -> None:
    """Warn of condition maps that are black everywhere, and of small ones that are enlarged to `size` (width, height).

    Such maps are mostly mistakes: nothing was detected, or a thumbnail was given.
    """
    for number, control in enumerate(controls, start=1):
        name, maps = f"control {number} of {len(controls)}", control.maps
        empty = not any(as_rgb(image).getbbox() for image in maps) if isinstance(maps, list) else not maps.any()
        if empty:
            warnings.warn(
                f"The condition of {name} is black everywhere, as where nothing was detected: it says nothing of the "
                "image's structure.",
                MaquetteWarning,
                stacklevel=3,
            )
        width, height = map_size(maps)
        if LARGEST_ENLARGEMENT * width < size[0] or LARGEST_ENLARGEMENT * height < size[1]:
            warnings.warn(
                f"The condition of {name}, {width}×{height} pixels, is enlarged to {size[0]}×{size[1]} and gets "
                "blurred; give one of about the images' size.",
                MaquetteWarning,
                stacklevel=3,
            )


def warn_of_classes(controls: list[Control], size: tuple[int, int]) -> None:
    """Warn of class numbers where colours are due, and of class maps that are resized smoothly to `size`.

    The contract of a ControlNet that was trained here says whether it takes classes. Published ones have none, so their
    maps are looked at.
    """
    for number, control in enumerate(controls, start=1):
        name, contract = f"control {number} of {len(controls)}", control.net.contract
        if not isinstance(control.maps, list) or (contract.stated and not contract.categorical):
            continue
        largest = seem_numbers(control.maps[0])
        if largest is not None:
            warnings.warn(
                f"The condition of {name} has a few levels of grey up to {largest}, as images of class numbers have. "
                "ControlNets of segmentation take colours, the published ones ADE20K's (control_v11p_sd15_seg COCO's "
                "too): read it with maquette.conditions.labels.read_class_map(path, path, 'ade20k').",
                MaquetteWarning,
                stacklevel=3,
            )
        palette = None if contract.categorical or map_size(control.maps) == size else palette_of(control.maps[0])
        if palette is not None:
            warnings.warn(
                f"The condition of {name} is in the class colours of {palette}, and its ControlNet has no contract "
                f"that says so: resized to {size[0]}×{size[1]} by averages, it shows colours of no class. Say it once: "
                "net.contract = dataclasses.replace(net.contract, categorical=True).",
                MaquetteWarning,
                stacklevel=3,
            )


def warn_of_precision(base: Base) -> None:
    """Warn of float16 on a CPU."""
    if base.device.type == "cpu" and base.dtype == torch.float16:
        warnings.warn(
            "In float16 a CPU is slow and large values overflow; load the base with dtype='bfloat16' or 'float32'.",
            MaquetteWarning,
            stacklevel=3,
        )
