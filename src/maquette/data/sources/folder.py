"""A data set in a folder with an index file, in one of two common layouts.

| index file | written by | a line |
| --- | --- | --- |
| metadata.jsonl | `datasets`' image folders, diffusers' ControlNet training | file_name, conditioning_image, text |
| prompt.json | the original repository's tutorial (fill50k) | target, source, prompt |

Each line is a JSON object; paths are relative to the folder. Other column names must be passed; none is guessed.
"""

import json
import warnings
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maquette.data.sources.jsonl import DEFAULT_COLUMNS, BadRow, Columns, File, Names, Row, RowError
from maquette.errors import MaquetteError, MaquetteWarning

LAYOUTS = {
    "metadata.jsonl": Names("file_name", "conditioning_image", "text"),
    "prompt.json": Names("target", "source", "prompt"),
}


class Folder:
    """The rows of a folder. Opens no image, and keeps 12 bytes per line: its offset and number.

    Args:
        columns: names other than the layout's.

    Raises `MaquetteError` if the folder has no index file, or no line of it has the columns. Indexing raises
    `RowError` if the line has changed since.
    """

    def __init__(self, folder: Path, columns: Columns = DEFAULT_COLUMNS) -> None:
        index = find_index(folder)
        if index is None:
            raise MaquetteError(
                f"{str(folder)!r} holds no {' and no '.join(LAYOUTS)}; write a metadata.jsonl into it, one line per "
                'image: {"file_name": "1.png", "conditioning_image": "edges/1.png", "text": "a red house"}.'
            )
        self.index = index
        self.names = columns.names(LAYOUTS[index.name])
        self.faults: list[BadRow] = []
        self._scan()
        if not len(self):
            first = f" Its first line {self.faults[0].reason}." if self.faults else " It is empty."
            raise MaquetteError(f"{str(index)!r} holds no row that can be read.{first}")

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> Row:
        with self.index.open("rb") as file:
            file.seek(self._starts[number])
            row = _row(file.readline(), f"{self.index}:{self._lines[number]}", self.index.parent, self.names)
        if isinstance(row, BadRow):
            raise RowError(row.where, f"{row.reason}; it was a row when the folder was opened")
        return row

    def _scan(self) -> None:
        starts, lines = array("q"), array("I")
        offset = 0
        with self.index.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = _row(line, f"{self.index}:{number}", self.index.parent, self.names)
                    if isinstance(row, BadRow):
                        self.faults.append(row)
                    else:
                        starts.append(offset)
                        lines.append(number)
                offset += len(line)
        self._starts = np.frombuffer(starts, np.int64)  # bytes
        self._lines = np.frombuffer(lines, np.uint32)


def find_index(folder: Path) -> Path | None:
    """A folder's index file, if it has one."""
    return next((folder / name for name in LAYOUTS if (folder / name).is_file()), None)


def _row(line: bytes, where: str, folder: Path, names: Names) -> Row | BadRow:
    try:
        values: Any = json.loads(line)
    except ValueError as error:  # of JSON, or of UTF-8
        return BadRow(where, f"is not JSON ({error})")
    if not isinstance(values, dict):
        return BadRow(where, "is not a JSON object")
    for name in filter(None, (names.image, names.text, names.condition)):
        if name not in values:
            return BadRow(where, f"has no {name!r} (it has: {', '.join(map(repr, values))}); give the column's name")
        if not isinstance(values[name], str):
            return BadRow(where, f"{name!r} must be a string, not {values[name]!r}")
    condition = File(folder / values[names.condition]) if names.condition else None
    text = values[names.text] if names.text else ""
    return Row(where, File(folder / values[names.image]), condition, text)


ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class ImageFolder:
    """The images of a folder as rows without conditions and with empty texts. Warns if texts were requested."""

    def __init__(self, folder: Path, images: Sequence[Path], columns: Columns) -> None:
        if columns.has_texts:
            warnings.warn(
                f"{str(folder)!r} holds only images, so their texts are empty; write a metadata.jsonl, or caption the "
                "images.",
                MaquetteWarning,
                stacklevel=2,
            )
        self.faults: Sequence[BadRow] = ()
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> Row:
        path = self._images[number]
        return Row(str(path), File(path), None, "")


def images_in(folder: Path) -> list[Path]:
    """All images in a folder and its subfolders, by file extension; hidden files and folders are skipped."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
