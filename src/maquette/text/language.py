"""Text read by a language model: the states of its tokens, of each prompt's own length."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2Tokenizer

from maquette.errors import MaquetteError
from maquette.text.clip import MissingTokenizer, warn_of_rest
from maquette.text.conditioning import Conditioning, TextEncoder, TextInputs
from maquette.text.tokenizing import check_tokenizer, known_ids, tokenize


class LanguageText(TextEncoder):
    """The states of a prompt in a fixed template.

    Args:
        network: whole, since it is saved again.
        settings: of its language model.
        width: of the backbone's text.
        dtype: of what it puts out; None for its own.

    Raises `MaquetteError` if it does not have the width of the backbone's text.
    """

    template: str  # with {} for the prompt
    before: int  # tokens of the template before the prompt
    unseen: int  # of these, those that the transformer does not see
    length: int  # most tokens that it sees

    def __init__(
        self,
        network: nn.Module,
        settings: Any,
        tokenizer: Qwen2Tokenizer | MissingTokenizer,
        width: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.network: Any = network.requires_grad_(False).eval()
        self.settings, self.tokenizer, self.dtype = settings, tokenizer, dtype
        self.modules = (network,)
        self.outputs = TextInputs(settings.hidden_size)
        if self.outputs.width != width:
            raise MaquetteError(
                f"The text encoder is {self.outputs.width} wide, its backbone takes {width}; use the one that it was "
                "trained with."
            )

    @abstractmethod
    def states(self, ids: Tensor) -> Tensor:
        """Of tokens (1, L) their states (1, L, D)."""

    @property
    def vocabulary(self) -> str:
        settings = self.settings
        read = (self.template, self.unseen, self.length, settings.num_attention_heads, settings.rope_parameters)
        tokens = [] if isinstance(self.tokenizer, MissingTokenizer) else sorted(self.tokenizer.get_vocab().items())
        return repr((*read, settings.rms_norm_eps, tokens))

    @torch.no_grad()
    def encode(self, prompts: list[str], size: tuple[int, int]) -> Conditioning:
        """Hidden states (B, L, D), L of the longest prompt; with a mask if others are shorter.

        Each prompt is read by itself, so that its states do not depend on those beside it.
        """
        states = {prompt: self._of_prompt(prompt) for prompt in dict.fromkeys(prompts)}
        return Conditioning.stack([Conditioning(states[prompt]) for prompt in prompts])

    def _of_prompt(self, prompt: str) -> Tensor:
        """The states of one prompt, (L, D)."""
        text, most = self.template.format(prompt), self.unseen + self.length
        ids = tokenize(self.tokenizer, text, max_length=most, truncation=True, return_tensors="pt").input_ids
        known = known_ids(ids, self.settings.vocab_size)
        if known.shape[1] <= self.unseen:
            raise MaquetteError(
                f"The tokenizer makes {known.shape[1]} tokens of a prompt and what stands around it, which alone are "
                f"over {self.unseen}: it is not the one of this text encoder; download the base again."
            )
        states = self.states(known.to(self.network.device))
        return states[0, self.unseen :].to(self.dtype or states.dtype)

    def warn_of_cut(self, prompt: str) -> None:
        """Of the template's end nothing is said: it makes room for the prompt."""
        ids = tokenize(self.tokenizer, prompt, truncation=False, verbose=False).input_ids
        most = self.length + self.unseen - self.before
        if len(ids) > most:
            warn_of_rest(len(ids), most, self.tokenizer.decode(ids[most:]).strip())

    def warn_of_unknown(self, prompt: str) -> None:
        """It was trained on more words than anyone lists."""

    def save(self, folder: Path) -> dict[str, list[str]]:
        self.network.save_pretrained(folder / "text_encoder")
        self.tokenizer.save_pretrained(folder / "tokenizer")  # type: ignore[union-attr]
        return {
            "text_encoder": ["transformers", type(self.network).__name__],
            "tokenizer": ["transformers", "Qwen2Tokenizer"],
        }


def read_qwen_tokenizer(folder: Path) -> Qwen2Tokenizer:
    """Qwen's tokenizer from its folder.

    Raises as `check_tokenizer` does.
    """
    check_tokenizer(folder, ("tokenizer.json", "vocab.json"))
    tokenizer: Qwen2Tokenizer = Qwen2Tokenizer.from_pretrained(str(folder))
    return tokenizer
