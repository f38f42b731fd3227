"""Prompts to features: one CLIP text encoder (Stable Diffusion 1.x, 2.x, the diorama), or two (XL)."""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from maquette.backbones.protocol import TextFeatures
from maquette.errors import MaquetteError, MaquetteWarning

WORDS = "words.txt"
"""Beside a tokenizer, where a base has it: the words that its captions had, one a line."""


@dataclass(frozen=True)
class MissingTokenizer:
    """Stands where a tokenizer could not be had: the rest of a base is of use without it."""

    reason: str
    model_max_length: int = 77

    def __call__(self, *_: object, **__: object) -> Any:
        raise MaquetteError(self.reason)

    decode = __call__


@dataclass(frozen=True)
class Clip:
    """A text encoder, locked, with its tokenizer."""

    encoder: CLIPTextModel | CLIPTextModelWithProjection
    tokenizer: CLIPTokenizer | MissingTokenizer
    words: frozenset[str] | None = None  # all that were learnt; None where nobody listed them

    def __post_init__(self) -> None:
        self.encoder.requires_grad_(False).eval()

    def tokens(self, prompts: list[str]) -> Tensor:
        """(B, L) on the encoder's device, each prompt padded or cut to what the encoder takes."""
        ids: Tensor = self.tokenizer(
            prompts,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return ids.to(self.encoder.device)

    def warn_of_cut(self, prompt: str) -> None:
        limit = self.tokenizer.model_max_length
        ids = self.tokenizer(prompt, truncation=False, verbose=False).input_ids
        if len(ids) > limit:
            cut = self.tokenizer.decode(ids[limit - 1 : -1]).strip()
            warnings.warn(
                f"The prompt has {len(ids)} tokens and the text encoder takes {limit}; cut off: {cut!r}.",
                MaquetteWarning,
                stacklevel=5,
            )

    def warn_of_unknown(self, prompt: str) -> None:
        """Name the words that no caption had, of a base that lists those it learnt."""
        unknown = [word for word in words_of(prompt) if word not in self.words] if self.words else []
        if unknown:
            warnings.warn(f"unknown here: {', '.join(unknown)}", MaquetteWarning, stacklevel=5)


def words_of(text: str) -> list[str]:
    """The words of two or more letters, small, each once, as they come."""
    return list(dict.fromkeys(re.findall(r"[^\W\d_]{2,}", text.lower())))


def read_words(folder: Path) -> frozenset[str] | None:
    """The words beside a tokenizer; None where they are not listed."""
    listed = folder / WORDS
    return frozenset(listed.read_text(encoding="utf-8").split()) if listed.is_file() else None


def read_tokenizer(folder: Path, **settings: str) -> CLIPTokenizer:
    """A tokenizer from its folder; without a vocabulary, the library would make one that knows no word."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise FileNotFoundError(f"there is no tokenizer.json or vocab.json in {str(folder)!r}")
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(str(folder), **settings)
    return tokenizer


@torch.no_grad()
def encode_one(clip: Clip, prompts: list[str]) -> TextFeatures:
    """The last states after the final norm, (B, L, D)."""
    return TextFeatures(clip.encoder(clip.tokens(prompts)).last_hidden_state)


@torch.no_grad()
def encode_two(first: Clip, second: Clip, prompts: list[str], size: tuple[int, int]) -> TextFeatures:
    """XL's: both encoders' last states but one, side by side (B, L, D₁ + D₂); the second's pooled; size and crop ids.

    Args:
        size: (width, height) of the pictures; none of it is cropped.
    """
    one = first.encoder(first.tokens(prompts), output_hidden_states=True)
    two = second.encoder(second.tokens(prompts), output_hidden_states=True)
    states = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1)
    return TextFeatures(states, two.text_embeds, size_ids(len(prompts), size).to(states))


def size_ids(count: int, size: tuple[int, int]) -> Tensor:
    """(count, 6): the original height and width, the crop's top and left, the target's; nothing is cropped."""
    return torch.tensor([[size[1], size[0], 0, 0, size[1], size[0]]] * count)
