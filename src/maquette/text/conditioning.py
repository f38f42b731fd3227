"""What a backbone is told beside latents and a timestep, and what every text encoder must answer.

Legend of shapes: B batch, L text tokens, D text width, P width of the pooled vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TextInputs:
    """What a backbone wants of its text encoders."""

    width: int  # D
    pooled_width: int | None = None  # P, where a pooled vector is wanted; SDXL's comes with six size and crop ids


@dataclass(frozen=True)
class Conditioning:
    """Encoded prompts; a family leaves out what it does not have.

    Carried whole through batches, caches and loops: a field added here is added everywhere.
    """

    hidden_states: Tensor  # (B, L, D)
    mask: Tensor | None = None  # (B, L) bool, True at tokens of the prompt, False at padding
    pooled: Tensor | None = None  # (B, P)
    time_ids: Tensor | None = None  # (B, 6): original height, width, crop top, left, target height, width; pixels
    guidance: Tensor | None = None  # (B,) scale of distilled guidance

    @staticmethod
    def of(text: "Tensor | Conditioning") -> "Conditioning":
        """Of hidden states (B, L, D) alone."""
        return text if isinstance(text, Conditioning) else Conditioning(text)

    def __len__(self) -> int:
        return len(self.hidden_states)

    def __getitem__(self, rows: slice | int) -> "Conditioning":
        """Some of the rows; one row by its number is without the rows' axis."""
        return Conditioning(**{name: value[rows] for name, value in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that this family has, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if value is not None}

    def to(self, *where: torch.device | torch.dtype) -> "Conditioning":
        """On a device, in a dtype; a mask keeps its own."""
        moved: dict[str, Tensor] = {}
        for name, value in self.tensors().items():
            fitting = [one for one in where if value.dtype != torch.bool or not isinstance(one, torch.dtype)]
            moved[name] = value.to(*fitting) if fitting else value  # type: ignore[call-overload]
        return Conditioning(**moved)

    def of_prompt(self) -> "Conditioning":
        """What follows from the prompt alone, and not from the size of the images."""
        return replace(self, time_ids=None)

    def is_all(self, row: "Conditioning") -> bool:
        """Whether every row is the same as the only row of another."""
        theirs = row.tensors()
        return all(bool((value == theirs[name]).all()) for name, value in self.tensors().items())

    @staticmethod
    def cat(parts: Sequence["Conditioning"]) -> "Conditioning":
        """Batches, one after another."""
        each = [part.tensors() for part in parts]
        return Conditioning(**{name: torch.cat([tensors[name] for tensors in each]) for name in each[0]})

    @staticmethod
    def stack(rows: Sequence["Conditioning"]) -> "Conditioning":
        """Single rows, without the rows' axis, as one batch."""
        each = [row.tensors() for row in rows]
        return Conditioning(**{name: torch.stack([tensors[name] for tensors in each]) for name in each[0]})


class TextEncoder(Protocol):
    """The text encoders of a base, locked, as one; a class a family.

    `maquette.base` sees to it that `modules` are on the device at work. What has a body here is so for most families.
    """

    modules: tuple[nn.Module, ...]  # all of its networks
    outputs: TextInputs  # what it makes

    @property
    def vocabulary(self) -> str:
        """How prompts come to the networks: with the weights, all that decides what is made of them."""
        ...

    def encode(self, prompts: list[str], size: tuple[int, int]) -> Conditioning:
        """Prompts for images of a size (width, height)."""
        ...

    def encode_negative(self, prompt: str, size: tuple[int, int]) -> Conditioning:
        """One row: what guidance leads away from."""
        return self.encode([prompt], size)

    def with_size(self, conditioning: Conditioning, size: tuple[int, int]) -> Conditioning:
        """With what depends on the size (width, height) of the images, which `of_prompt` leaves out."""
        return conditioning

    def warn_of_cut(self, prompt: str) -> None:
        """Warn, and say what is cut, where a prompt is longer than the encoder takes."""
        ...

    def warn_of_unknown(self, prompt: str) -> None:
        """Warn of words that the captions in training did not have, where the base lists those they had."""
        ...

    def save(self, folder: Path) -> dict[str, list[str]]:
        """Write networks and tokenizers into a base's folder; the library and class of each part, by its name."""
        ...
