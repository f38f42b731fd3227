"""The one seam between ControlNets and base models: what any backbone must answer.

Legend of shapes: B batch, C channels, h × w latent size, H × W picture size,
L text tokens, D text width.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Slot:
    """A place where a ControlNet adds to the backbone."""

    name: str
    channels: int
    downscale: int  # how many times smaller than the latents


@dataclass(frozen=True)
class TextInputs:
    """What a backbone wants of its text encoders."""

    width: int  # D
    pooled_width: int | None = None  # SDXL: of the pooled vector, given beside six size and crop ids


@dataclass(frozen=True)
class TextFeatures:
    """Encoded prompts."""

    states: Tensor  # (B, L, D)
    pooled: Tensor | None = None  # (B, P)
    ids: Tensor | None = None  # (B, 6): original height, width, crop top, left, target height, width

    @staticmethod
    def of(text: "Tensor | TextFeatures") -> "TextFeatures":
        return text if isinstance(text, TextFeatures) else TextFeatures(text)

    def to(self, *where: torch.device | torch.dtype) -> "TextFeatures":
        """On a device, in a dtype."""

        def moved(part: Tensor | None) -> Tensor | None:
            return part if part is None else part.to(*where)  # type: ignore[call-overload]

        return TextFeatures(self.states.to(*where), moved(self.pooled), moved(self.ids))  # type: ignore[call-overload]

    def __getitem__(self, rows: slice) -> "TextFeatures":
        return TextFeatures(self.states[rows], _rows(self.pooled, rows), _rows(self.ids, rows))

    @staticmethod
    def cat(parts: Sequence["TextFeatures"]) -> "TextFeatures":
        return TextFeatures(
            torch.cat([part.states for part in parts]),
            _cat([part.pooled for part in parts]),
            _cat([part.ids for part in parts]),
        )


def _rows(part: Tensor | None, rows: slice) -> Tensor | None:
    return None if part is None else part[rows]


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


class Residuals(Sequence[Tensor | None]):
    """What ControlNets add: one tensor (B, C, h, w) a slot, None where nothing is added.

    The one type at which composition (a sum), weighting (a factor a slot) and backbones meet.
    """

    def __init__(self, values: Iterable[Tensor | None]) -> None:
        self.values = tuple(values)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Any:
        return self.values[index]

    def __iter__(self) -> Iterator[Tensor | None]:
        return iter(self.values)

    def __add__(self, other: "Residuals") -> "Residuals":
        assert len(self) == len(other), "residuals of two families don't add up"
        return Residuals(_plus(a, b) for a, b in zip(self, other, strict=True))

    def onto(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """A backbone's features with the residuals added."""
        pairs = zip(features, self, strict=True)
        return tuple(feature if value is None else feature + value for feature, value in pairs)

    def scaled(self, factors: float | Sequence[float]) -> "Residuals":
        """Each slot times its factor."""
        each = factors if isinstance(factors, Sequence) else [factors] * len(self)
        return Residuals(_times(value, factor) for value, factor in zip(self, each, strict=True))

    def pooled(self) -> "Residuals":
        """Each slot's mean over the picture, (B, C, 1, 1): what a picture looks like, not where."""
        return Residuals(None if value is None else value.mean(dim=(2, 3), keepdim=True) for value in self)

    def behind(self, rows: int) -> "Residuals":
        """With `rows` rows of zeros before the batch: nothing is added to those."""
        return Residuals(_padded(value, rows) for value in self)


def _plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _times(value: Tensor | None, factor: float) -> Tensor | None:
    return value if value is None or factor == 1 else value * factor


def _padded(value: Tensor | None, rows: int) -> Tensor | None:
    if value is None or rows == 0:
        return value
    return torch.cat([value.new_zeros(rows, *value.shape[1:]), value])


@dataclass(frozen=True)
class Encoded:
    """What the first half of a backbone hands to the second."""

    features: tuple[Tensor, ...]  # one a slot, (B, C, h, w)
    time: Tensor  # (B, T) embedded timestep
    text: Tensor  # (B, L, D)


class Encoder(Protocol):
    """The half that a ControlNet copies."""

    def __call__(
        self, latents: Tensor, timestep: Tensor | int, text: Tensor | TextFeatures, added: Tensor | None = None
    ) -> Encoded:
        """Run on latents (B, C, h, w); `added` (B or 1, C, h, w) joins the first convolution's output."""


class Backbone(Protocol):
    """The six questions."""

    network: nn.Module  # all its weights, locked unless a training unlocks some
    latent_channels: int
    downscale: int  # pixels to one latent cell, a side
    text: TextInputs
    slots: tuple[Slot, ...]

    def copy_encoder(self) -> nn.Module:
        """A trainable copy of the blocks that a ControlNet copies; an `Encoder`."""

    def encode(self, latents: Tensor, timestep: Tensor | int, text: Tensor | TextFeatures) -> Encoded:
        """The first half, without gradients while it is locked: nothing before the residuals learns from the loss."""

    def decode(self, encoded: Encoded, residuals: Residuals | None = None) -> Tensor:
        """The second half, with residuals added; gradients reach its inputs, and its weights only where unlocked."""

    def decoder_parameters(self) -> list[nn.Parameter]:
        """The second half's weights: what may be unlocked when a ControlNet has converged."""

    def describe_copy(self) -> dict[str, Any]:
        """The configuration under which others load a ControlNet of this backbone."""
