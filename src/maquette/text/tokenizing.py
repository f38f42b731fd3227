"""Tokenizers: checked before they are read, used by several threads, and held against what their encoder knows."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerBase

from maquette.errors import MaquetteError
from maquette.foundation.reading.documents import read_json
from maquette.foundation.reading.files import TEXT, check_folder
from maquette.foundation.reading.rules import Rule, check_values, typed

SETTINGS: dict[str, Rule] = {"model_max_length": typed(float, 1)}
"""Rules for tokenizer_config.json. transformers writes 10³⁰ where there is no length; the text encoder's counts."""

_alone = threading.Lock()


def check_tokenizer(folder: Path, vocabularies: Sequence[str]) -> None:
    """Check the files that transformers reads a tokenizer from, by their names.

    Args:
        vocabularies: names of files, of which one is needed; the library would silently use an empty one.

    Raises `FileNotFoundError` if there is none of them, `OSError` for files that are none or too large, and
    `MaquetteError` for settings out of range.
    """
    check_folder(folder, (".json", ".txt", ".model"), TEXT)
    settings = folder / "tokenizer_config.json"
    if settings.exists():
        check_values(read_json(settings), SETTINGS, str(settings))
    if not any((folder / name).is_file() for name in vocabularies):
        raise FileNotFoundError(f"there is no {' or '.join(vocabularies)} in {str(folder)!r}")


def check_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises `ValueError` for a tokenizer that cannot fill prompts up to a length."""
    if tokenizer.pad_token is None:
        raise ValueError("its tokenizer has no pad_token, with which prompts are filled up")


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: str | Sequence[str], **settings: Any) -> BatchEncoding:
    """`tokenizer(texts, **settings)`, one call at a time.

    A fast tokenizer keeps how it pads and cuts from one call to the next, so that between a thread's setting it and
    using it another thread could set it otherwise.
    """
    with _alone:
        return tokenizer(texts, **settings)


def known_ids(ids: Tensor, known: int) -> Tensor:
    """Token ids, in any shape, of which the text encoder knows each.

    Args:
        known: the size of its vocabulary.

    Raises `MaquetteError` for others.
    """
    if int(ids.max()) >= known:
        raise MaquetteError(
            f"The tokenizer names the token {int(ids.max())}, and the text encoder knows {known}: they are of "
            "different models; download the base again."
        )
    return ids
