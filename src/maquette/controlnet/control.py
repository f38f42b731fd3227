"""How ControlNets take part in a generation, alone or combined: a weighted sum of their residuals."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add

from PIL import Image
from torch import Tensor

from maquette.backbones.residuals import Residuals
from maquette.controlnet.choices import check_strength
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError


@dataclass(frozen=True)
class Control:
    """A ControlNet, its condition map, its weight and when it is active.

    Args:
        net: any ControlNet for the base that generates.
        condition: an image, or a tensor (1, 3, H, W) in [0, 1], RGB; or (N, 3, H, W), one per image.
        weight: factor on its residuals; 0 turns it off.
        start, end: fractions of the steps, in [0, 1], between which it is active. end=0.5: the paper's coarse control.

    Raises `MaquetteError` for a condition of another type or range, and for a weight, start or end outside the limits.
    """

    net: ControlNet
    condition: Image.Image | Tensor
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.condition, Image.Image | Tensor):
            kind = type(self.condition).__name__
            raise MaquetteError(f"A control's condition is a PIL image or a tensor (1, 3, H, W) in [0, 1], not {kind}.")
        if (
            isinstance(self.condition, Tensor)
            and not -1 <= float(self.condition.min()) <= float(self.condition.max()) <= 1
        ):
            raise MaquetteError(
                f"A condition tensor holds values from 0 to 1 (-1 where inpainting masks it), not "
                f"{float(self.condition.min()):g} to {float(self.condition.max()):g}."
            )
        check_strength(self.weight, self.start, self.end)

    def active(self, step: int, steps: int) -> bool:
        """Whether it runs at all in a step, by the same rule as diffusers."""
        return self.weight != 0 and step / steps >= self.start and (step + 1) / steps <= self.end


def sum_residuals(residuals: Iterable[Residuals]) -> Residuals:
    """Combine several ControlNets by adding their outputs (v3 §3.4); no interpolation is needed."""
    return reduce(add, residuals)
