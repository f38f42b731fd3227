"""What ControlNets add to a backbone: the one type shared by composition, weighting and backbones."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from maquette.backbones.wiring import Wiring


class Residuals(Sequence[Tensor | None]):
    """One tensor (B, C, h, w) for each slot of the backbone, None where nothing is added."""

    def __init__(self, values: Iterable[Tensor | None]) -> None:
        self.values = tuple(values)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Any:
        return self.values[index]

    def __iter__(self) -> Iterator[Tensor | None]:
        return iter(self.values)

    def __add__(self, other: "Residuals") -> "Residuals":
        assert len(self) == len(other), "residuals of different families cannot be added"
        return Residuals(_plus(a, b) for a, b in zip(self, other, strict=True))

    @staticmethod
    def wired(outputs: Sequence[Tensor | None], wiring: Wiring, slots: int) -> "Residuals":
        """Each output (B, C, h, w) of a ControlNet at every slot it is wired to: the same tensor, not copies."""
        values: list[Tensor | None] = [None] * slots
        for output, places in zip(outputs, wiring, strict=False):
            for place in places:
                values[place] = _plus(values[place], output)
        return Residuals(values)

    def add_to(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """A backbone's features, (B, C, h, w) per slot, with the residuals added."""
        pairs = zip(features, self, strict=True)
        return tuple(feature if value is None else feature + value for feature, value in pairs)

    def scaled(self, factors: float | Sequence[float]) -> "Residuals":
        """Each slot multiplied by its factor."""
        per_slot = factors if isinstance(factors, Sequence) else [factors] * len(self)
        return Residuals(_times(value, factor) for value, factor in zip(self, per_slot, strict=True))

    def masked(self, masks: Sequence[Tensor] | None) -> "Residuals":
        """Each slot multiplied by its mask (1, 1, h, w) in [0, 1]; None: no masks. Pooled ones get the mask's shape."""
        if masks is None:
            return self
        return Residuals(None if value is None else value * mask for value, mask in zip(self, masks, strict=True))

    def pooled(self) -> "Residuals":
        """Each slot averaged over the image, (B, C, 1, 1): style without layout."""
        return Residuals(None if value is None else value.mean(dim=(2, 3), keepdim=True) for value in self)

    def pad_front(self, rows: int) -> "Residuals":
        """With `rows` rows of zeros in front of the batch, which leave those rows unchanged."""
        return Residuals(_padded(value, rows) for value in self)


def _plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The sum of two (B, C, h, w), None counting as zero."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _times(value: Tensor | None, factor: float) -> Tensor | None:
    """Of any shape; with factor 1 the tensor itself."""
    return value if value is None or factor == 1 else value * factor


def _padded(value: Tensor | None, rows: int) -> Tensor | None:
    """(B, C, h, w) to (rows + B, C, h, w)."""
    if value is None or rows == 0:
        return value
    return torch.cat([value.new_zeros(rows, *value.shape[1:]), value])
