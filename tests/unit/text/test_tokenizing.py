"""Tokenizers in several threads, and what is wrong with their files or with them beside their encoder."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import tiny_base
from tests.tiny_qwen import tiny_text, tiny_tokenizer
from tests.tiny_sd3 import tiny_t5

from maquette.errors import MaquetteError
from maquette.foundation.reading.files import TEXT
from maquette.text.clip import read_tokenizer
from maquette.text.language import read_qwen_tokenizer
from maquette.text.qwen import TEMPLATE
from maquette.text.sd3 import read_t5_tokenizer
from maquette.text.tokenizing import check_padding, tokenize


def test_threads_do_not_change_how_others_pad() -> None:
    tokenizer = tiny_base("sd15").text.text_encoders[0].tokenizer

    def lengths(number: int) -> set[int]:
        padded = {"padding": "max_length", "max_length": 16, "truncation": True} if number % 2 else {}
        return {len(tokenize(tokenizer, "a", **padded).input_ids) for _ in range(300)}

    expected = [lengths(number) for number in range(2)]
    assert expected[0] != expected[1] == {16}
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lengths, range(8))) == expected * 4


READERS = {
    "clip": (read_tokenizer, lambda: tiny_base("sd15").text.text_encoders[0].tokenizer),
    "t5": (read_t5_tokenizer, lambda: tiny_t5().tokenizer),
    "qwen": (read_qwen_tokenizer, tiny_tokenizer),
}


@pytest.fixture(params=READERS)
def saved(request, tmp_path) -> tuple[Callable[[Path], Any], Path]:
    read, make = READERS[request.param]
    make().save_pretrained(tmp_path)
    return read, tmp_path


def test_what_is_no_tokenizer_is_said(saved) -> None:
    read, folder = saved
    whole = read(folder)
    assert whole("a b").input_ids
    settings = folder / "tokenizer_config.json"
    kept = settings.read_text()
    settings.write_text(json.dumps({**json.loads(kept), "model_max_length": "long"}))
    with pytest.raises(MaquetteError, match=r"'model_max_length' in .* is a number"):
        read(folder)
    settings.write_text(kept)
    (folder / "added_tokens.json").write_bytes(b" " * (TEXT + 1))
    with pytest.raises(OSError, match="is larger than 67,108,864 bytes"):
        read(folder)
    (folder / "added_tokens.json").unlink()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no tokenizer\.json or"):
        read(folder)


@pytest.mark.parametrize("name", ["spiece.model", "tokenizer.json", "special_tokens_map.json"])
def test_a_pipe_among_the_files_of_a_tokenizer_does_not_wait(saved, name) -> None:
    read, folder = saved
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(OSError, match="is not a regular file but a pipe"):
        read(folder)


def test_t5_pads() -> None:
    tokenizer = tiny_t5().tokenizer
    check_padding(tokenizer)
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="has no pad_token"):
        check_padding(tokenizer)


def test_tokens_that_t5_does_not_know() -> None:
    t5 = tiny_t5()
    assert t5.states(["a b"]).shape[:2] == (1, t5.length)
    t5.tokenizer.add_tokens([f"word{number}" for number in range(20)])
    with pytest.raises(MaquetteError, match=r"names the token 7., and the text encoder knows 64"):
        t5.states([f"word{number}" for number in range(20)])


def test_a_tokenizer_that_swallows_the_template_of_qwen() -> None:
    text = tiny_text()
    text.settings.vocab_size += 1
    text.tokenizer.add_special_tokens({"additional_special_tokens": [TEMPLATE.split("{}")[0]]})
    with pytest.raises(MaquetteError, match="it is not the one of this text encoder"):
        text.encode(["a"], (64, 64))
