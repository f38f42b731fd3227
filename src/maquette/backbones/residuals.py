"""What ControlNets add to a backbone: the one type shared by composition, weighting and backbones."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from maquette.backbones.wiring import Wiring
from maquette.errors import MaquetteError


class Own(NamedTuple):
    """What a network that predicts by itself (variants "channels", "context") says in place of the base."""

    prediction: Tensor  # (B, C, h, w)
    factor: float | Tensor = 1.0  # how far the base's prediction moves towards it; (1 or B, 1, h or 1, w or 1)


class Tokens(NamedTuple):
    """Tokens of an image as a map, and those behind them in the same sequence, of padding and text."""

    map: Tensor  # (B, C, h, w)
    beside: Tensor  # (B, T, C)


class Residuals(Sequence[Tensor | None]):
    """One tensor (B, C, h, w) for each slot of the backbone, None where nothing is added.

    Networks that predict by themselves add to no slot; their predictions are in `own`. Where a ControlNet adds to the
    tokens beside the image's as well, of padding and text, that is in `beside`: (B, T, C) or None for each slot. They
    lie nowhere in the image, so a mask acts there by the share of the image that it leaves.
    """

    def __init__(
        self, values: Iterable[Tensor | None], own: Iterable[Own] = (), beside: Iterable[Tensor | None] | None = None
    ) -> None:
        self.values, self.own = tuple(values), tuple(own)
        self.beside = (None,) * len(self.values) if beside is None else tuple(beside)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Any:
        return self.values[index]

    def __iter__(self) -> Iterator[Tensor | None]:
        return iter(self.values)

    def __add__(self, other: "Residuals") -> "Residuals":
        assert len(self) == len(other), "residuals of different families cannot be added"
        beside = (_plus(*_of_one_length(a, b)) for a, b in zip(self.beside, other.beside, strict=True))
        return Residuals((_plus(a, b) for a, b in zip(self, other, strict=True)), self.own + other.own, beside)

    @staticmethod
    def wired(outputs: Sequence[Tensor | Tokens | None], wiring: Wiring, slots: int) -> "Residuals":
        """Each output (B, C, h, w) of a ControlNet at every slot it is wired to: the same tensor, not copies."""
        values: list[Tensor | None] = [None] * slots
        beside: list[Tensor | None] = [None] * slots
        for output, places in zip(outputs, wiring, strict=False):
            map_, behind = output if isinstance(output, Tokens) else (output, None)
            for place in places:
                values[place], beside[place] = _plus(values[place], map_), _plus(beside[place], behind)
        return Residuals(values, beside=beside)

    def add_to(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """A backbone's features, (B, C, h, w) per slot, with the residuals added."""
        pairs = zip(features, self, strict=True)
        return tuple(feature if value is None else feature + value for feature, value in pairs)

    def scaled(self, factors: float | Sequence[float]) -> "Residuals":
        """Each slot multiplied by its factor.

        Raises `MaquetteError` if factors differ for a network that predicts by itself.
        """
        per_slot = factors if isinstance(factors, Sequence) else [factors] * len(self)
        if self.own and len(set(per_slot)) > 1:
            raise MaquetteError(
                "A ControlNet with added channels, or in context, predicts by itself, so it has one weight: a number, "
                'balance other than "prompt", and condition_in other than "weighted".'
            )
        own = (Own(prediction, factor * per_slot[0]) for prediction, factor in self.own)
        values, beside = (
            [_times(value, factor) for value, factor in zip(part, per_slot, strict=True)]
            for part in (self.values, self.beside)
        )
        return Residuals(values, own, beside)

    def masked(self, masks: Sequence[Tensor] | None) -> "Residuals":
        """Each slot multiplied by its mask (1, 1, h, w) in [0, 1]; None: no masks. Pooled ones get the mask's shape."""
        if masks is None:
            return self
        own = (Own(prediction, factor * _of_cells(masks[0], prediction)) for prediction, factor in self.own)
        values = (None if value is None else value * mask for value, mask in zip(self, masks, strict=True))
        beside = (
            None if value is None else value * mask.mean() for value, mask in zip(self.beside, masks, strict=True)
        )
        return Residuals(values, own, beside)

    def pooled(self) -> "Residuals":
        """Each slot averaged over the image, (B, C, 1, 1): style without layout."""
        pooled = (None if value is None else value.mean(dim=(2, 3), keepdim=True) for value in self)
        return Residuals(pooled, beside=self.beside)

    def pad_front(self, rows: int) -> "Residuals":
        """With `rows` rows of zeros in front of the batch, which leave those rows unchanged."""
        return self._each(lambda value: _padded(value, rows), (_padded_own(own, rows) for own in self.own))

    def twice(self) -> "Residuals":
        """For both halves of a batch of two branches, from those of one."""
        return self._each(lambda value: torch.cat([value, value]))

    def last(self, rows: int) -> "Residuals":
        """Those of the last rows of the batch, where it has more; without what networks predict by themselves."""
        return self._each(lambda value: value[-rows:])

    def _each(self, change: Callable[[Tensor], Tensor], own: Iterable[Own] = ()) -> "Residuals":
        """With every tensor, (B, C, h, w) or (B, T, C), changed."""
        values, beside = (
            [None if value is None else change(value) for value in part] for part in (self.values, self.beside)
        )
        return Residuals(values, own, beside)

    def tensors(self) -> dict[str, Tensor]:
        """Those of the slots, (B, C, h, w), by the slot's number, and those beside, (B, T, C), with "+" behind it.

        What networks predict by themselves is left out.
        """
        named = {str(slot): value for slot, value in enumerate(self) if value is not None}
        return named | {f"{slot}+": value for slot, value in enumerate(self.beside) if value is not None}

    def like(self, tensors: dict[str, Tensor]) -> "Residuals":
        """Others at the same slots, (B, C, h, w) and (B, T, C), named as by `tensors`."""
        slots = range(len(self))
        return Residuals((tensors.get(str(slot)) for slot in slots), beside=(tensors.get(f"{slot}+") for slot in slots))

    @property
    def alone(self) -> Tensor | None:
        """The prediction (B, C, h, w) that takes the place of the base's, if there is one such, in full."""
        whole = len(self.own) == 1 and isinstance(self.own[0].factor, float) and self.own[0].factor == 1
        return self.own[0].prediction if whole else None

    def blended(self, prediction: Tensor) -> Tensor:
        """The base's prediction p (B, C, h, w) moved towards each own one q by its factor: p + Σ f (q − p)."""
        if self.alone is not None:
            return self.alone
        moves = [factor * (own - prediction) for own, factor in self.own]
        return sum(moves, start=prediction)


def _plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The sum of two of one shape, such as (B, C, h, w), None counting as zero."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _of_one_length(a: Tensor | None, b: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Two of (B, T, C), the shorter one with zeros behind."""
    if a is None or b is None:
        return a, b
    length = max(a.shape[1], b.shape[1])
    return with_length(a, length), with_length(b, length)


def with_length(tokens: Tensor, length: int) -> Tensor:
    """(B, T, C) with zeros behind or without what is behind, (B, length, C)."""
    return F.pad(tokens, (0, 0, 0, length - tokens.shape[1]))


def _times(value: Tensor | None, factor: float) -> Tensor | None:
    """Of any shape; with factor 1 the tensor itself."""
    return value if value is None or factor == 1 else value * factor


def _of_cells(mask: Tensor, prediction: Tensor) -> Tensor:
    """The first slot's mask (1, 1, h / p, w / p) for latents (B, C, h, w): a token's for all of its cells."""
    return mask if mask.shape[2:] == prediction.shape[2:] else F.interpolate(mask, prediction.shape[2:])


def _padded(value: Tensor, rows: int) -> Tensor:
    """(B, ...) to (rows + B, ...)."""
    if rows == 0:
        return value
    return torch.cat([value.new_zeros(rows, *value.shape[1:]), value])


def _padded_own(own: Own, rows: int) -> Own:
    """With `rows` rows in front of the batch in which the base's prediction stays."""
    if rows == 0:
        return own
    prediction, factor = own
    factors = torch.as_tensor(factor, dtype=prediction.dtype, device=prediction.device)
    per_row = factors.expand(len(prediction), 1, *(factors.shape[2:] or (1, 1)))
    return Own(*(torch.cat([part.new_zeros(rows, *part.shape[1:]), part]) for part in (prediction, per_row)))
