"""JSON and TOML as they come: of a bounded size and depth, and with strings that are text."""

import codecs
import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maquette.foundation.reading.files import TEXT, read_bytes, read_text

NESTING = 64  # lists and tables within each other
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # an escape of half a surrogate pair


def parse_json(content: bytes | str) -> Any:
    """A JSON value from UTF-8 or from text.

    Raises `ValueError` for anything else, with half of an emoji, or nested more than `NESTING` deep.
    """
    text = content if isinstance(content, str) else content.removeprefix(codecs.BOM_UTF8).decode()
    try:
        value = json.loads(text)
        if isinstance(content, str) or ("\\u" in text and _HALF.search(text)):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("it holds half of an emoji or another broken letter") from error
    if text.count("[") + text.count("{") > NESTING and _is_deep(value):
        raise ValueError("it is nested too deeply")
    return value


def _is_deep(value: Any) -> bool:
    """Whether lists and tables are nested more than `NESTING` deep."""
    level = [value]
    for _ in range(NESTING):
        level = [item for held in level if isinstance(held, list | dict) for item in _items(held)]
    return any(isinstance(held, list | dict) for held in level)


def _items(held: list[Any] | dict[str, Any]) -> Iterable[Any]:
    return held.values() if isinstance(held, dict) else held


def read_json(path: str | Path, most: int = TEXT) -> Any:
    """The value in a JSON file of at most `most` bytes.

    Raises `OSError` for a file that cannot be read, and `ValueError` for one that holds no JSON.
    """
    return parse_json(read_bytes(path, most))


def read_toml(path: str | Path, most: int = TEXT) -> dict[str, Any]:
    """The tables of a TOML file of at most `most` bytes. Raises as `read_json` does."""
    try:
        return tomllib.loads(read_text(path, most).replace("\r\n", "\n"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_text(text: str) -> bool:
    """Whether a string can be written: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
