"""A backbone's inputs besides latents and timestep, and what every text encoder must provide.

Legend of shapes: B batch, L text tokens, D text width, P width of the pooled vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class TextInputs:
    """The text inputs of a backbone."""

    width: int  # D
    guided: bool = field(default=False, kw_only=True)  # whether it takes a scale of distilled guidance
    pooled_width: int | None = None  # P, if it takes a pooled vector; SDXL's comes with six size and crop ids


@dataclass(frozen=True)
class Conditioning:
    """Encoded prompts; fields that a family does not use are None.

    Batches, caches and loops pass it on as a whole, so a new field needs no changes there.
    """

    hidden_states: Tensor  # (B, L, D)
    mask: Tensor | None = None  # (B, L) bool, True at tokens of the prompt, False at padding behind; None: no padding
    pooled: Tensor | None = None  # (B, P)
    time_ids: Tensor | None = None  # (B, 6): original height, width, crop top, left, target height, width; pixels
    guidance: Tensor | None = None  # (B,) scale of distilled guidance

    @staticmethod
    def of(text: "Tensor | Conditioning") -> "Conditioning":
        """A `Conditioning` from hidden states (B, L, D), or unchanged if it is one already."""
        return text if isinstance(text, Conditioning) else Conditioning(text)

    def __len__(self) -> int:
        return len(self.hidden_states)

    def __getitem__(self, rows: slice | int) -> "Conditioning":
        """A slice of rows; or a single row, without the batch axis. Padding that none of them needs is left out."""
        picked = Conditioning(**{name: value[rows] for name, value in self.tensors().items()})
        if picked.mask is None:
            return picked
        length = int(picked.mask.sum(dim=-1).max())
        mask = picked.mask[..., :length]
        return replace(
            picked, hidden_states=picked.hidden_states[..., :length, :], mask=None if bool(mask.all()) else mask
        )

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are not None, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if value is not None}

    def like(self, tensors: dict[str, Tensor]) -> "Conditioning":
        """Others, of any shape, named as by `tensors`."""
        return Conditioning(**tensors)

    def to(self, *where: torch.device | torch.dtype) -> "Conditioning":
        """Move to a device or convert to a dtype; a mask stays bool."""
        moved: dict[str, Tensor] = {}
        for name, value in self.tensors().items():
            targets = [to for to in where if value.dtype != torch.bool or not isinstance(to, torch.dtype)]
            moved[name] = value.to(*targets) if targets else value  # type: ignore[call-overload]
        return Conditioning(**moved)

    def of_prompt(self) -> "Conditioning":
        """Only what depends on the prompt, without what depends on the size of the images."""
        return replace(self, time_ids=None)

    def guided(self, scale: float | None) -> "Conditioning":
        """With a scale of distilled guidance in every row, (B,) in float32; None: as it is."""
        if scale is None:
            return self
        states = self.hidden_states
        return replace(self, guidance=torch.full((len(states),), float(scale), device=states.device))

    def is_all(self, row: "Conditioning") -> bool:
        """Whether every row equals the only row of another."""
        mine, theirs = self.tensors(), row.tensors()
        if any(value.shape[1:] != theirs[name].shape[1:] for name, value in mine.items() if name in theirs):
            return False
        return mine.keys() == theirs.keys() and all(bool((mine[name] == theirs[name]).all()) for name in mine)

    @staticmethod
    def cat(parts: Sequence["Conditioning"]) -> "Conditioning":
        """Concatenate batches; texts are padded to the longest."""
        batches = _of_one_length(parts)
        return Conditioning(**{name: torch.cat([batch[name] for batch in batches]) for name in batches[0]})

    @staticmethod
    def stack(rows: Sequence["Conditioning"]) -> "Conditioning":
        """Stack single rows, without the batch axis, into a batch; texts are padded to the longest."""
        tensors = _of_one_length(rows)
        return Conditioning(**{name: torch.stack([row[name] for row in tensors]) for name in tensors[0]})

    def padded(self, length: int) -> "Conditioning":
        """With zeros behind each text up to `length` tokens, and a mask that tells them apart."""
        states, missing = self.hidden_states, length - self.hidden_states.shape[-2]
        mask = states.new_ones(states.shape[:-1], dtype=torch.bool) if self.mask is None else self.mask
        return replace(self, hidden_states=F.pad(states, (0, 0, 0, missing)), mask=F.pad(mask, (0, missing)))


def _of_one_length(parts: Sequence[Conditioning]) -> list[dict[str, Tensor]]:
    """The tensors of batches or rows: as they are if their texts are of one length, else padded to the longest."""
    lengths = [part.hidden_states.shape[-2] for part in parts]
    if len(set(lengths)) > 1 or any(part.mask is not None for part in parts):
        parts = [part.padded(max(lengths)) for part in parts]
    return [part.tensors() for part in parts]


class TextEncoder(Protocol):
    """All text encoders of a base, locked; one class per family.

    `maquette.base` moves `modules` to the right device. Methods with a body are defaults that fit most families.
    """

    modules: tuple[nn.Module, ...]  # all of its networks
    outputs: TextInputs  # widths of its outputs

    @property
    def vocabulary(self) -> str:
        """An identifier of tokenization and settings: together with the weights, it determines the encodings."""
        ...

    def encode(self, prompts: list[str], size: tuple[int, int]) -> Conditioning:
        """Encode prompts for images of a size (width, height)."""
        ...

    def encode_negative(self, prompt: str, size: tuple[int, int]) -> Conditioning:
        """One row: the negative prompt, which guidance steers away from."""
        return self.encode([prompt], size)

    def with_size(self, conditioning: Conditioning, size: tuple[int, int]) -> Conditioning:
        """Add what depends on the size (width, height) of the images, which `of_prompt` leaves out."""
        return conditioning

    def warn_of_cut(self, prompt: str) -> None:
        """Warn with the part that is cut off if a prompt exceeds the context length."""
        ...

    def warn_of_unknown(self, prompt: str) -> None:
        """Warn of words that the captions in training did not have, where the base lists those they had."""
        ...

    def save(self, folder: Path) -> dict[str, list[str]]:
        """Write networks and tokenizers into a base's folder; returns their entries in model_index.json."""
        ...
