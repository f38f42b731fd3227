"""What can be asked of one generation, checked before anything is computed."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from PIL import Image
from torch import Tensor

from maquette.base import Base
from maquette.controlnet.compose import Control
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.registry import unknown
from maquette.noise.process import steps_taken
from maquette.noise.samplers import SAMPLERS
from maquette.sampling.guidance import ConditionIn, ResolutionWeights

MOST_STEPS = 1000
MOST_SEEDS = 2**63


@dataclass(frozen=True)
class Sampling:
    """How to sample, beside the prompt and the controls."""

    steps: int = 20  # 1 to 1000
    guidance: float = 9.0  # β of classifier-free guidance, 0 to 50; 1 is none
    condition_in: ConditionIn = "both"  # both branches, the conditional one, or there with resolution weights
    resolution_weights: ResolutionWeights = "normalised"  # of condition_in="weighted"
    sampler: str = "ddim"
    strength: float = 1.0  # with a start picture: share of the noise put on it, above 0 to 1
    seed: int = 0  # picture i starts from seed + i
    batch_size: int = 8  # pictures at once

    def __post_init__(self) -> None:
        _whole("steps", self.steps, 1, MOST_STEPS)
        _whole("seed", self.seed, 0, MOST_SEEDS)
        _whole("batch_size", self.batch_size, 1, None)
        _number("guidance", self.guidance, 0, 50)
        _number("strength", self.strength, 0, 1)
        if self.strength == 0:
            raise MaquetteError("strength is above 0: at 0 nothing would be generated.")
        for name, known in (
            ("condition_in", list(get_args(ConditionIn))),
            ("resolution_weights", list(get_args(ResolutionWeights))),
            ("sampler", list(SAMPLERS)),
        ):
            if getattr(self, name) not in known:
                raise MaquetteError(unknown(name, getattr(self, name), known))

    @staticmethod
    def on(base: Base, **asked: Any) -> "Sampling":
        """What is asked for, and of steps, guidance and sampler what suits the base where they are None.

        Raises `MaquetteError` for a value out of range, or a sampler that the base's noise does not know.
        """
        own = {name: value for name, value in vars(base.defaults).items() if asked.get(name) is None}
        sampling = Sampling(**{**asked, **own})
        if sampling.sampler not in base.noise.samplers:
            known = list(base.noise.samplers)
            raise MaquetteError(f"For the base {base.name!r}: {unknown('sampler', sampling.sampler, known)}")
        return sampling

    def steps_taken(self, started: bool) -> int:
        """With a start picture, the last ones alone."""
        return steps_taken(self.steps, self.strength) if started else self.steps


def _whole(name: str, value: object, least: int, most: int | None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        span = f"from {least} to {most}" if most is not None else f"of {least} or more"
        raise MaquetteError(f"{name} is a whole number {span}, not {value!r}.")


def _number(name: str, value: object, least: float, most: float) -> None:
    if not isinstance(value, int | float) or not least <= value <= most:  # a NaN is in no span
        raise MaquetteError(f"{name} lies between {least} and {most}, not {value!r}.")


def check_prompts(prompt: str | Sequence[str], negative: str, count: int) -> list[str]:
    """One prompt a picture; there is one negative prompt for all."""
    _whole("count", count, 1, None)
    prompts = [prompt] * count if isinstance(prompt, str) else list(prompt or ())
    if not prompts or not all(isinstance(one, str) for one in prompts):
        raise MaquetteError(f"A prompt is a text, or a list of texts with one a picture, not {prompt!r}.")
    if not isinstance(negative, str):
        raise MaquetteError(f"A prompt is a text, and a negative prompt one for all pictures, not {negative!r}.")
    return prompts


def check_start(image: Image.Image | None, mask: Image.Image | None) -> None:
    """A mask needs a start picture."""
    if mask is not None and image is None:
        raise MaquetteError("A mask says which part of a start picture may change; give image= too.")


def check_controls(base: Base, asked: Sequence[Control] | Control) -> list[Control]:
    """One control or several as a list: every one must be made for this base, and stand where it stands."""
    controls = [asked] if isinstance(asked, Control) else list(asked)
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
        low, high = control.net.contract.condition_range
        given = control.condition
        if control.net.contract.stated and isinstance(given, Tensor) and not low <= given.min() <= given.max() <= high:
            raise MaquetteError(
                f"Control {number} of {len(controls)} was trained on conditions from {low:g} to {high:g} and is given "
                f"{float(given.min()):g} to {float(given.max()):g}; scale them to its range."
            )
        cast = torch.is_autocast_enabled(base.home.type)  # as training measures: each operation picks its dtype
        if control.net.device != base.home or (control.net.dtype != base.dtype and not cast):
            raise MaquetteError(
                f"Control {number} of {len(controls)} is in {control.net.dtype} on {control.net.device}, the base in "
                f"{base.dtype} on {base.home}; move it with net.to({base.home.type!r}, {base.dtype})."
            )
    return controls


def warn_of_unused(sampling: Sampling, controls: list[Control], started: bool, negative: bool) -> None:
    """A note for every setting that changes nothing here.

    Args:
        started: whether there is a start picture.
        negative: whether there is a negative prompt.
    """
    steps = sampling.steps_taken(started)
    notes = {
        "strength has no effect without a start picture (image=)": sampling.strength != 1 and not started,
        "condition_in has no effect without controls": sampling.condition_in != "both" and not controls,
        "resolution_weights has no effect unless condition_in is 'weighted'": (
            sampling.resolution_weights != "normalised" and sampling.condition_in != "weighted"
        ),
        "negative_prompt has no effect at a guidance of 1": negative and sampling.guidance == 1,
    }
    for number, control in enumerate(controls, start=1):
        idle = control.weight != 0 and not any(control.active(step, steps) for step in range(steps))
        span = f"between {control.start:g} and {control.end:g} lies none of the {steps} steps"
        notes[f"control {number} of {len(controls)} has no effect: {span}"] = idle
    for note, holds in notes.items():
        if holds:
            warnings.warn(f"{note[0].upper()}{note[1:]}.", MaquetteWarning, stacklevel=3)
