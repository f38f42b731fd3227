"""Z-Image's text: the states of a language model, Qwen3, that is given the prompt as its user's message."""

import torch
from torch import Tensor
from transformers import Qwen2Tokenizer, Qwen3Model

from maquette.text.clip import MissingTokenizer
from maquette.text.language import LanguageText

TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


class Qwen3Text(LanguageText):
    """The states that Qwen3's last layer is given, of all tokens.

    Args:
        network, tokenizer, width, dtype: see `LanguageText`, which says what is raised, too.

    Raises `MaquetteError` if it does not have the width of the backbone's text.
    """

    template = TEMPLATE
    before, unseen = 3, 0
    length = 512

    def __init__(
        self,
        network: Qwen3Model,
        tokenizer: Qwen2Tokenizer | MissingTokenizer,
        width: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(network, network.config, tokenizer, width, dtype)

    def states(self, ids: Tensor) -> Tensor:
        """Of tokens (1, L) their states (1, L, D)."""
        states: Tensor = self.network(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states[-2]
        return states
