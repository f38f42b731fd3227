"""Qwen-Image's text: the states of a language model, Qwen2.5-VL, that is asked to describe what the prompt says."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from maquette.errors import MaquetteError
from maquette.text.clip import MissingTokenizer, warn_of_rest
from maquette.text.conditioning import Conditioning, TextEncoder, TextInputs
from maquette.text.tokenizing import check_tokenizer, known_ids, tokenize

TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
BEFORE = 34
"""Tokens before the prompt, which the transformer does not see."""
LENGTH = 512
"""Most tokens that it sees: the prompt's, and the end of the template, unless the prompt fills them."""


class QwenText(TextEncoder):
    """The last hidden states of Qwen2.5-VL's language model, from the prompt's first token on.

    Args:
        network: whole, since it is saved again; its part that sees images stays unused.
        width: of the backbone's text.
        dtype: of what it puts out; None for its own.

    Raises `MaquetteError` if it does not have the width of the backbone's text.
    """

    def __init__(
        self,
        network: Qwen2_5_VLForConditionalGeneration,
        tokenizer: Qwen2Tokenizer | MissingTokenizer,
        width: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.network, self.tokenizer, self.dtype = network.requires_grad_(False).eval(), tokenizer, dtype
        self.settings = network.config.text_config
        self.modules = (network,)
        self.outputs = TextInputs(self.settings.hidden_size)
        if self.outputs.width != width:
            raise MaquetteError(
                f"The text encoder is {self.outputs.width} wide, its backbone takes {width}; use the one that it was "
                "trained with."
            )

    @property
    def vocabulary(self) -> str:
        read = (TEMPLATE, BEFORE, LENGTH, self.settings.num_attention_heads, self.settings.rope_parameters)
        tokens = [] if isinstance(self.tokenizer, MissingTokenizer) else sorted(self.tokenizer.get_vocab().items())
        return repr((*read, self.settings.rms_norm_eps, tokens))

    @torch.no_grad()
    def encode(self, prompts: list[str], size: tuple[int, int]) -> Conditioning:
        """Hidden states (B, L, D), L of the longest prompt; with a mask if others are shorter.

        Each prompt is read by itself, so that its states do not depend on those beside it.
        """
        states = {prompt: self._states(prompt) for prompt in dict.fromkeys(prompts)}
        return Conditioning.stack([Conditioning(states[prompt]) for prompt in prompts])

    def _states(self, prompt: str) -> Tensor:
        """Of one prompt, (L, D)."""
        ids = tokenize(
            self.tokenizer, TEMPLATE.format(prompt), max_length=BEFORE + LENGTH, truncation=True, return_tensors="pt"
        ).input_ids
        known = known_ids(ids, self.settings.vocab_size)
        if known.shape[1] <= BEFORE:
            raise MaquetteError(
                f"The tokenizer makes {known.shape[1]} tokens of a prompt and what stands around it, which alone are "
                f"over {BEFORE}: it is not the one of this text encoder; download the base again."
            )
        language = self.network.model.language_model
        states: Tensor = language(input_ids=known.to(self.network.device), use_cache=False).last_hidden_state
        return states[0, BEFORE:].to(self.dtype or states.dtype)

    def warn_of_cut(self, prompt: str) -> None:
        ids = tokenize(self.tokenizer, prompt, truncation=False, verbose=False).input_ids
        if len(ids) > LENGTH:
            warn_of_rest(len(ids), LENGTH, self.tokenizer.decode(ids[LENGTH:]).strip())

    def warn_of_unknown(self, prompt: str) -> None:
        """It was trained on more words than anyone lists."""

    def save(self, folder: Path) -> dict[str, list[str]]:
        self.network.save_pretrained(folder / "text_encoder")
        self.tokenizer.save_pretrained(folder / "tokenizer")  # type: ignore[union-attr]
        return {
            "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
            "tokenizer": ["transformers", "Qwen2Tokenizer"],
        }


def read_qwen_tokenizer(folder: Path) -> Qwen2Tokenizer:
    """Qwen's tokenizer from its folder.

    Raises as `check_tokenizer` does.
    """
    check_tokenizer(folder, ("tokenizer.json", "vocab.json"))
    tokenizer: Qwen2Tokenizer = Qwen2Tokenizer.from_pretrained(str(folder))
    return tokenizer
