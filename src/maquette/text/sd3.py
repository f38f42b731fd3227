"""Stable Diffusion 3's text: two CLIPs side by side, and behind them T5's tokens, where it is there."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import T5EncoderModel, T5TokenizerFast

from maquette.errors import MaquetteError
from maquette.text.clip import Clip, Clips, warn_of_rest
from maquette.text.conditioning import Conditioning, TextInputs
from maquette.text.tokenizing import check_padding, check_tokenizer, known_ids, tokenize

T5_TOKENS = 256


@dataclass(frozen=True)
class T5:
    """T5's encoder, locked, with its tokenizer; prompts are read up to `length` tokens."""

    encoder: T5EncoderModel
    tokenizer: T5TokenizerFast
    length: int = T5_TOKENS

    def __post_init__(self) -> None:
        self.encoder.requires_grad_(False).eval()

    def states(self, prompts: list[str]) -> Tensor:
        """Hidden states (B, L, D) of `length` tokens; padding is not masked, as in training."""
        ids = tokenize(
            self.tokenizer, prompts, padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
        ).input_ids
        known = known_ids(ids, self.encoder.config.vocab_size)
        states: Tensor = self.encoder(known.to(self.encoder.device)).last_hidden_state
        return states

    def cut(self, prompt: str) -> tuple[int, str]:
        """The number of a prompt's tokens, and the part of it that is cut off."""
        ids = tokenize(self.tokenizer, prompt, truncation=False, verbose=False).input_ids
        return len(ids), self.tokenizer.decode(ids[self.length - 1 : -1]).strip()


def read_t5_tokenizer(folder: Path) -> T5TokenizerFast:
    """T5's tokenizer from its folder.

    Raises as `check_tokenizer` does, and `ValueError` for one without a pad_token.
    """
    check_tokenizer(folder, ("tokenizer.json", "spiece.model"))
    tokenizer: T5TokenizerFast = T5TokenizerFast.from_pretrained(str(folder))
    check_padding(tokenizer)
    return tokenizer


class SD3Text(Clips):
    """The second-to-last hidden states of both CLIPs side by side, padded with zeros to the width of T5's states, which
    follow them; and the pooled vectors of both.

    Args:
        width: of the backbone's text.
        t5: None for a base without it.
        blank: without T5, tokens of zeros in its place: `T5_TOKENS` where it was left out, since the base saw zeros
            whenever T5 was dropped in training; none where the base never had one.

    Raises `MaquetteError` if the encoders do not have the width of the backbone's text.
    """

    def __init__(self, first: Clip, second: Clip, width: int, t5: T5 | None = None, blank: int = 0) -> None:
        super().__init__(first, second)
        self.t5, self.blank = t5, blank
        clips = (first.encoder.config, second.encoder.config)
        self.outputs = TextInputs(width, sum(config.projection_dim for config in clips))
        if sum(config.hidden_size for config in clips) > width or (t5 and t5.encoder.config.d_model != width):
            raise MaquetteError(
                f"The text encoders are {clips[0].hidden_size} + {clips[1].hidden_size} wide"
                f"{f' and {t5.encoder.config.d_model} (T5)' if t5 else ''}, their backbone takes {width}; use those it "
                "was trained with."
            )
        if t5:
            self.modules = (*self.modules, t5.encoder)

    @property
    def vocabulary(self) -> str:
        if not self.t5:
            return f"{super().vocabulary}/{self.blank}"
        return f"{super().vocabulary}/{T5_TOKENS} {sorted(self.t5.tokenizer.get_vocab().items())}"

    @torch.no_grad()
    def encode(self, prompts: list[str], size: tuple[int, int]) -> Conditioning:
        """Hidden states (B, L, D) and pooled (B, P)."""
        texts = [clip.encoder(clip.tokens(prompts), output_hidden_states=True) for clip in self.text_encoders]
        states = torch.cat([text.hidden_states[-2] for text in texts], dim=-1)
        blank = 0 if self.t5 else self.blank
        states = F.pad(states, (0, self.outputs.width - states.shape[-1], 0, blank))
        if self.t5:
            states = torch.cat([states, self.t5.states(prompts).to(states.dtype)], dim=1)
        return Conditioning(states, pooled=torch.cat([text.text_embeds for text in texts], dim=-1))

    def warn_of_cut(self, prompt: str) -> None:
        """T5 reads more than the CLIPs do, so only what it does not read is lost."""
        if self.t5 is None:
            super().warn_of_cut(prompt)
            return
        count, rest = self.t5.cut(prompt)
        if count > T5_TOKENS:
            warn_of_rest(count, T5_TOKENS, rest)

    def save(self, folder: Path) -> dict[str, list[str]]:
        index = super().save(folder)
        if self.t5:
            self.t5.encoder.save_pretrained(folder / "text_encoder_3")
            self.t5.tokenizer.save_pretrained(folder / "tokenizer_3")
        return index
