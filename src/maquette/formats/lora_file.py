"""A LoRA file by name, as it is asked for and as an image's record keeps it. This module does not import torch."""

from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

from maquette.errors import MaquetteError
from maquette.foundation.reading.files import file_hash
from maquette.foundation.weight_files import weights_kind


@dataclass(frozen=True)
class LoraFile:
    """A LoRA file, and how strongly it is added.

    Raises `MaquetteError` for a file that is not a text, and for a weight that is not a number.
    """

    file: str
    weight: float = 1.0  # 1 is as trained, below 0 does the opposite
    sha256: str | None = None  # of the file

    def __post_init__(self) -> None:
        if not isinstance(self.file, str):
            raise MaquetteError(f"A LoRA's file is a path as text, not {self.file!r}.")
        if isinstance(self.weight, bool) or not isinstance(self.weight, int | float) or not isfinite(self.weight):
            raise MaquetteError(f"The weight of a LoRA is a number, usually 0 to 1, not {self.weight!r}.")

    @staticmethod
    def read(text: str) -> "LoraFile":
        """Parse FILE or FILE:WEIGHT. Raises `MaquetteError` for a weight that is not a finite number."""
        file, colon, typed = text.rpartition(":")
        try:
            weight = float(typed)
        except ValueError:  # the colon belongs to the path
            return LoraFile(text)
        return LoraFile(file, weight) if colon and not Path(text).is_file() else LoraFile(text)

    def check(self) -> None:
        """Raises `MaquetteError` for a file that is missing or holds no weights, and for an index of several."""
        if not Path(self.file).is_file():
            raise MaquetteError(f"There is no LoRA {self.file!r}; give the path of its .safetensors file.")
        if weights_kind(Path(self.file)) == "index":
            raise MaquetteError(f"A LoRA is one file, and {self.file!r} is an index of several; give a single file.")

    def hashed(self) -> "LoraFile":
        """With the SHA-256 of the file as it is now. Raises `MaquetteError` where `check` does."""
        self.check()
        return replace(self, sha256=file_hash(self.file))
