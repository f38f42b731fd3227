"""CLIP's text encoders: one (Stable Diffusion 1.x, 2.x, the diorama), or two (XL)."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from maquette.errors import MaquetteError, MaquetteWarning, shortened
from maquette.foundation.reading.files import read_text
from maquette.text.conditioning import Conditioning, TextEncoder, TextInputs
from maquette.text.tokenizing import check_padding, check_tokenizer, known_ids, tokenize

WORDS = "words.txt"
"""Beside a tokenizer, where a base has it: the words that its captions had, one a line."""


@dataclass(frozen=True)
class MissingTokenizer:
    """Takes the place of a tokenizer that could not be loaded, since the rest of a base is usable without one.

    Raises `MaquetteError` with the reason when called.
    """

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
        """Token ids (B, L) on the encoder's device, padded or truncated to the encoder's context length.

        Raises `MaquetteError` for a tokenizer whose tokens the encoder does not know.
        """
        ids: Tensor = tokenize(
            self.tokenizer, prompts, padding="max_length", max_length=self.context, truncation=True, return_tensors="pt"
        ).input_ids
        return known_ids(ids, self.encoder.config.vocab_size).to(self.encoder.device)

    @property
    def context(self) -> int:
        """Tokens that it takes, whatever the tokenizer's settings say."""
        return int(min(self.tokenizer.model_max_length, self.encoder.config.max_position_embeddings))

    def warn_of_cut(self, prompt: str) -> None:
        """Warn with the part that is cut off if a prompt exceeds the context length."""
        limit = self.context
        ids = tokenize(self.tokenizer, prompt, truncation=False, verbose=False).input_ids
        if len(ids) > limit:
            warn_of_rest(len(ids), limit, self.tokenizer.decode(ids[limit - 1 : -1]).strip())

    def warn_of_unknown(self, prompt: str) -> None:
        """Name the words that no caption had, of a base that lists those it learnt."""
        unknown = [word for word in words_of(prompt) if word not in self.words] if self.words else []
        if unknown:
            warnings.warn(f"unknown here: {', '.join(unknown)}", MaquetteWarning, stacklevel=6)


def warn_of_rest(count: int, limit: int, rest: str) -> None:
    """Say that of a prompt's tokens only so many are read, and which part of it is not."""
    warnings.warn(
        f"The prompt has {count} tokens and the text encoder takes {limit}; cut off: {shortened(rest)!r}.",
        MaquetteWarning,
        stacklevel=7,
    )


def words_of(text: str) -> list[str]:
    """The words of two or more letters, in lower case, each once, in their order."""
    return list(dict.fromkeys(re.findall(r"[^\W\d_]{2,}", text.lower())))


def read_words(folder: Path) -> frozenset[str] | None:
    """The words beside a tokenizer; None where they are not listed."""
    listed = folder / WORDS
    return frozenset(read_text(listed).split()) if listed.is_file() else None


def read_tokenizer(folder: Path, **settings: str) -> CLIPTokenizer:
    """A tokenizer from its folder.

    Raises as `check_tokenizer` does, and `ValueError` for one without a pad_token.
    """
    check_tokenizer(folder, ("tokenizer.json", "vocab.json"))
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(str(folder), **settings)
    check_padding(tokenizer)
    return tokenizer


class Clips(TextEncoder):
    """What one CLIP and several have in common; prompts are checked against the first."""

    def __init__(self, *text_encoders: Clip) -> None:
        self.text_encoders: tuple[Clip, ...] = text_encoders
        self.modules: tuple[nn.Module, ...] = tuple(clip.encoder for clip in text_encoders)

    @property
    def vocabulary(self) -> str:
        return _vocabulary(self.text_encoders)

    def warn_of_cut(self, prompt: str) -> None:
        self.text_encoders[0].warn_of_cut(prompt)

    def warn_of_unknown(self, prompt: str) -> None:
        self.text_encoders[0].warn_of_unknown(prompt)

    def save(self, folder: Path) -> dict[str, list[str]]:
        return _save(self.text_encoders, folder)


class ClipText(Clips):
    """A single CLIP: the last hidden states, after the final norm."""

    def __init__(self, clip: Clip) -> None:
        super().__init__(clip)
        self.outputs = TextInputs(clip.encoder.config.hidden_size)

    @torch.no_grad()
    def encode(self, prompts: list[str], size: tuple[int, int]) -> Conditioning:
        """Hidden states (B, L, D)."""
        (clip,) = self.text_encoders
        return Conditioning(clip.encoder(clip.tokens(prompts)).last_hidden_state)


class XLText(Clips):
    """XL's two CLIPs: their second-to-last hidden states concatenated, the second's pooled vector, size and crop ids.

    Args:
        zero_empty_prompt: whether an empty negative prompt becomes zeros instead of being encoded.
    """

    def __init__(self, first: Clip, second: Clip, zero_empty_prompt: bool = False) -> None:
        super().__init__(first, second)
        width = first.encoder.config.hidden_size + second.encoder.config.hidden_size
        self.outputs = TextInputs(width, second.encoder.config.projection_dim)
        self.zero_empty_prompt = zero_empty_prompt

    @torch.no_grad()
    def encode(self, prompts: list[str], size: tuple[int, int]) -> Conditioning:
        """Hidden states (B, L, D₁ + D₂), pooled (B, P), time_ids (B, 6)."""
        first, second = self.text_encoders
        narrow = first.encoder(first.tokens(prompts), output_hidden_states=True)
        wide = second.encoder(second.tokens(prompts), output_hidden_states=True)
        states = torch.cat([narrow.hidden_states[-2], wide.hidden_states[-2]], dim=-1)
        return self.with_size(Conditioning(states, pooled=wide.text_embeds), size)

    def encode_negative(self, prompt: str, size: tuple[int, int]) -> Conditioning:
        text = self.encode([prompt], size)
        if prompt or not self.zero_empty_prompt:
            return text
        assert text.pooled is not None, "XL's text is pooled"
        return replace(text, hidden_states=torch.zeros_like(text.hidden_states), pooled=torch.zeros_like(text.pooled))

    def with_size(self, conditioning: Conditioning, size: tuple[int, int]) -> Conditioning:
        """With time_ids (B, 6): original height and width, crop top and left (always 0), target height and width."""
        ids = torch.tensor([[size[1], size[0], 0, 0, size[1], size[0]]] * len(conditioning))
        return replace(conditioning, time_ids=ids.to(conditioning.hidden_states))


def _vocabulary(text_encoders: Sequence[Clip]) -> str:
    """For each encoder: its vocabulary, its context length, and the settings that weights do not determine."""
    parts = []
    for clip in text_encoders:
        tokens = sorted(clip.tokenizer.get_vocab().items()) if isinstance(clip.tokenizer, CLIPTokenizer) else []
        config = clip.encoder.config
        parts.append(repr((clip.context, config.hidden_act, config.eos_token_id, tokens)))
    return "/".join(parts)


def _save(text_encoders: Sequence[Clip], folder: Path) -> dict[str, list[str]]:
    index = {}
    for number, clip in zip(("", "_2"), text_encoders, strict=False):
        clip.encoder.save_pretrained(folder / f"text_encoder{number}")
        clip.tokenizer.save_pretrained(folder / f"tokenizer{number}")  # type: ignore[union-attr]
        index[f"text_encoder{number}"] = ["transformers", type(clip.encoder).__name__]
        index[f"tokenizer{number}"] = ["transformers", "CLIPTokenizer"]
    return index
