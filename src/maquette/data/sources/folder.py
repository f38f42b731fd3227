"""A data set in a folder with an index file, in one of two common layouts.

| index file | written by | a line |
| --- | --- | --- |
| metadata.jsonl | `datasets`' image folders, diffusers' ControlNet training | file_name, conditioning_image, text |
| prompt.json | the original repository's tutorial (fill50k) | target, source, prompt |

Each line is a JSON object; paths are relative to the folder. Other column names must be passed; none is guessed.
"""

import warnings
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maquette.data.sources.jsonl import (
    DEFAULT_COLUMNS,
    BadRow,
    Columns,
    File,
    Names,
    Row,
    RowError,
    found,
    leaves,
)
from maquette.errors import MaquetteError, MaquetteWarning, shortened
from maquette.foundation.reading.documents import parse_json
from maquette.foundation.reading.files import open_regular

LONGEST = 2**20  # bytes of a line

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
        self.index, self.columns = index, columns
        self.names = columns.names(LAYOUTS[index.name])
        self.faults: list[BadRow] = []
        self._scan()
        if not len(self):
            first = f" Its first line {self.faults[0].reason}." if self.faults else " It is empty."
            raise MaquetteError(f"{str(index)!r} holds no row that can be read.{first}")

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> Row:
        line_number = int(self._lines[number])
        try:
            with open_regular(self.index) as file:
                file.seek(self._starts[number])
                row = self._row(file.readline(LONGEST), line_number)
        except OSError as error:
            raise RowError(f"{self.index}:{line_number}", f"cannot be read ({error.strerror or error})") from error
        if isinstance(row, BadRow):
            raise RowError(row.where, f"{row.reason}; it was a row when the folder was opened")
        return row

    def _scan(self) -> None:
        starts, lines = array("q"), array("I")
        for number, (offset, line) in enumerate(_lines(self.index), start=1):
            if line.strip():
                row = self._row(line, number)
                if isinstance(row, BadRow):
                    self.faults.append(row)
                else:
                    starts.append(offset)
                    lines.append(number)
        self._starts = np.frombuffer(starts, np.int64)  # bytes
        self._lines = np.frombuffer(lines, np.uint32)

    def _row(self, line: bytes, number: int) -> Row | BadRow:
        where = f"{self.index}:{number}"
        try:
            return _parsed(line, where, self.index.parent, self.names, self.columns)
        except ValueError as error:
            return BadRow(where, str(error))


def _lines(index: Path) -> Iterator[tuple[int, bytes]]:
    """Offset in bytes and content of each line; of one that is too long only the start.

    Raises `MaquetteError` if the file cannot be read.
    """
    offset = 0
    try:
        with open_regular(index) as file:
            while line := file.readline(LONGEST):
                start, offset = offset, offset + len(line)
                rest = line
                while len(rest) == LONGEST and not rest.endswith(b"\n"):
                    rest = file.readline(LONGEST)
                    offset += len(rest)
                yield start, line
    except OSError as error:
        raise MaquetteError(f"The rows in {str(index)!r} cannot be read ({error.strerror or error}).") from error


def find_index(folder: Path) -> Path | None:
    """A folder's index file, if it has one."""
    return next((folder / name for name in LAYOUTS if (folder / name).is_file()), None)


def _parsed(line: bytes, where: str, folder: Path, names: Names, columns: Columns) -> Row:
    """The row in a line. Raises `ValueError` that says what is wrong with it."""
    if len(line) == LONGEST:
        raise ValueError(f"is longer than {LONGEST:,} bytes")
    try:
        values: Any = parse_json(line)
    except ValueError as error:
        raise ValueError(f"is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ValueError("is not a JSON object")
    for name in filter(None, (names.image, names.text, names.condition)):
        if name not in values:
            has = ", ".join(map(repr, values))
            raise ValueError(f"has no {name!r} (it has: {shortened(has)}); give the column's name")
        if not isinstance(values[name], str):
            raise ValueError(f"{name!r} must be a string, not {shortened(repr(values[name]))}")
    image = _file(values[names.image], folder, columns)
    condition = _file(values[names.condition], folder, columns) if names.condition else None
    return Row(where, image, condition, values[names.text] if names.text else "")


def _file(name: str, folder: Path, columns: Columns) -> File:
    path = found(name, folder, columns)
    if path is None:
        raise ValueError(leaves(shortened(name)))
    if not name or "\0" in name:
        raise ValueError(f"names {shortened(name)!r}, which no file can be called")
    return File(path)


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
