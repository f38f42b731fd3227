"""Qwen-Image's text: the states of a language model, Qwen2.5-VL, that is asked to describe what the prompt says."""

import torch
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from maquette.text.clip import MissingTokenizer
from maquette.text.language import LanguageText

TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)


class QwenText(LanguageText):
    """The last hidden states of Qwen2.5-VL's language model, from the prompt's first token on.

    Args:
        network: its part that sees images stays unused.
        tokenizer, width, dtype: see `LanguageText`, which says what is raised, too.

    Raises `MaquetteError` if it does not have the width of the backbone's text.
    """

    template = TEMPLATE
    before = unseen = 34
    length = 512  # of the prompt, and of the template's end, unless the prompt fills them

    def __init__(
        self,
        network: Qwen2_5_VLForConditionalGeneration,
        tokenizer: Qwen2Tokenizer | MissingTokenizer,
        width: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(network, network.config.text_config, tokenizer, width, dtype)

    def states(self, ids: Tensor) -> Tensor:
        """Of tokens (1, L) their states (1, L, D)."""
        states: Tensor = self.network.model.language_model(input_ids=ids, use_cache=False).last_hidden_state
        return states
