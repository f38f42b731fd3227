"""Tokenizers that several threads use."""

import threading
from collections.abc import Sequence
from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizerBase

_alone = threading.Lock()


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: str | Sequence[str], **settings: Any) -> BatchEncoding:
    """`tokenizer(texts, **settings)`, one call at a time.

    A fast tokenizer keeps how it pads and cuts from one call to the next, so that between a thread's setting it and
    using it another thread could set it otherwise.
    """
    with _alone:
        return tokenizer(texts, **settings)
