"""What can be asked of one generation, checked before anything is computed."""

import math
from dataclasses import dataclass
from typing import get_args

from maquette.base import Base
from maquette.controlnet.compose import Control
from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown
from maquette.sampling.guidance import ConditionIn, ResolutionWeights

MOST_STEPS = 1000


@dataclass(frozen=True)
class Sampling:
    """How to sample, beside the prompt and the controls."""

    steps: int = 20  # 1 to 1000
    guidance: float = 9.0  # β of classifier-free guidance, 0 to 50; 1 is none
    condition_in: ConditionIn = "both"  # both branches, the conditional one, or there with resolution weights
    resolution_weights: ResolutionWeights = "normalised"  # of condition_in="weighted"
    sampler: str = "ddim"
    strength: float = 1.0  # with a start picture: share of the noise put on it, above 0 to 1

    def __post_init__(self) -> None:
        if not (isinstance(self.steps, int) and 1 <= self.steps <= MOST_STEPS):
            raise MaquetteError(f"steps is a whole number from 1 to {MOST_STEPS}, not {self.steps}; 20 is usual.")
        if not (math.isfinite(self.guidance) and 0 <= self.guidance <= 50):
            raise MaquetteError(f"guidance lies between 0 and 50, not {self.guidance}; 3 to 9 is usual, 1 is none.")
        if not 0 < self.strength <= 1:
            raise MaquetteError(f"strength is above 0 and at most 1, not {self.strength}.")
        for name, known in (
            ("condition_in", get_args(ConditionIn)),
            ("resolution_weights", get_args(ResolutionWeights)),
        ):
            if getattr(self, name) not in known:
                raise MaquetteError(unknown(name, getattr(self, name), list(known)))


def check_controls(base: Base, controls: list[Control]) -> None:
    """Every control must be made for this base."""
    for number, control in enumerate(controls, start=1):
        if not control.net.fits(base.backbone):
            widths = [sorted({slot.channels for slot in slots}) for slots in (control.net.slots, base.backbone.slots)]
            raise MaquetteError(
                f"Control {number} of {len(controls)} is made for another base: its residuals have widths "
                f"{widths[0]} and its text width {control.net.text.width}, the base {base.name!r} has {widths[1]} "
                f"and {base.backbone.text.width}; use controls that were trained on this base."
            )


def check_size(base: Base, size: tuple[int, int]) -> None:
    """Width and height must suit the base."""
    step = base.size_step
    if len(size) != 2 or any(not isinstance(side, int) or side < step or side % step or side > 4096 for side in size):
        near = tuple(min(4096, max(step, round(side / step) * step)) for side in size)
        raise MaquetteError(
            f"size is (width, height) in multiples of {step} pixels from {step} to 4096 for the base {base.name!r}, "
            f"not {tuple(size)}; {near} would do."
        )


def nearest_size(base: Base, size: tuple[int, int]) -> tuple[int, int]:
    """The size that the base takes nearest to one given."""
    width, height = (max(base.size_step, round(side / base.size_step) * base.size_step) for side in size)
    return width, height
