"""The page's words, one file for each language. This module does not import torch."""

from collections.abc import Iterable
from pathlib import Path

from maquette.errors import MaquetteError
from maquette.foundation.reading.documents import read_json

FOLDER = Path(__file__).parent / "strings"
LANGUAGES = ("en", "ja", "zh")


class Strings:
    """The words of a language by key: `words("steps")`, with values for their gaps if they have any.

    Raises `MaquetteError` for a language that there is no file of.
    """

    def __init__(self, language: str) -> None:
        if language not in LANGUAGES:
            raise MaquetteError(f"The page speaks {', '.join(LANGUAGES)}, not {language!r}.")
        self.language = language
        self._words: dict[str, str] = read_json(FOLDER / f"{language}.json")

    def __call__(self, key: str, *values: object) -> str:
        return self._words[key].format(*values) if values else self._words[key]

    def choices(self, keys: Iterable[str]) -> list[tuple[str, str]]:
        """(words, value) of each choice; a value without words, such as another base's condition, is its own."""
        return [(self._words.get(key, key), key) for key in keys]


def language_of(accepted: str) -> str:
    """The language for an Accept-Language header: the first one that the page speaks, by the browser's weights."""
    wanted = []
    for part in accepted.split(","):
        name, _, quality = part.partition(";q=")
        try:
            wanted.append((-float(quality or 1), name.strip().lower().split("-")[0]))
        except ValueError:
            continue
    return next((name for _, name in sorted(wanted, key=lambda one: one[0]) if name in LANGUAGES), LANGUAGES[0])
