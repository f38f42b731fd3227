"""Flux's text: T5's tokens, and the pooled vector of a CLIP."""

from pathlib import Path

import torch

from maquette.errors import MaquetteError
from maquette.text.clip import Clip, Clips, warn_of_rest
from maquette.text.conditioning import Conditioning, TextInputs
from maquette.text.sd3 import T5


class FluxText(Clips):
    """T5's hidden states, and CLIP's pooled vector of the last layer, which is not projected.

    Args:
        width: of the backbone's text.

    Raises `MaquetteError` if T5 does not have the width of the backbone's text.
    """

    def __init__(self, clip: Clip, t5: T5, width: int) -> None:
        super().__init__(clip)
        self.t5, found = t5, t5.encoder.config.d_model
        self.outputs = TextInputs(found, clip.encoder.config.hidden_size)
        self.modules = (clip.encoder, t5.encoder)
        if found != width:
            raise MaquetteError(f"T5 is {found} wide, its backbone takes {width}; use the one it was trained with.")

    @property
    def vocabulary(self) -> str:
        return f"{super().vocabulary}/{self.t5.length} {sorted(self.t5.tokenizer.get_vocab().items())}"

    @torch.no_grad()
    def encode(self, prompts: list[str], size: tuple[int, int]) -> Conditioning:
        """Hidden states (B, L, D) and pooled (B, P)."""
        (clip,) = self.text_encoders
        pooled = clip.encoder(clip.tokens(prompts)).pooler_output
        return Conditioning(self.t5.states(prompts).to(pooled.dtype), pooled=pooled)

    def warn_of_cut(self, prompt: str) -> None:
        """T5 reads more than CLIP does, so only what it does not read is lost."""
        count, rest = self.t5.cut(prompt)
        if count > self.t5.length:
            warn_of_rest(count, self.t5.length, rest)

    def save(self, folder: Path) -> dict[str, list[str]]:
        self.t5.encoder.save_pretrained(folder / "text_encoder_2")
        self.t5.tokenizer.save_pretrained(folder / "tokenizer_2")
        second = {
            "text_encoder_2": ["transformers", "T5EncoderModel"],
            "tokenizer_2": ["transformers", "T5TokenizerFast"],
        }
        return {**super().save(folder), **second}
