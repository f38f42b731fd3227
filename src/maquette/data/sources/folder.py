"""A data set in a folder, by the conventions that others have: which images, which conditions, which words.

| layout | written by | a line |
| --- | --- | --- |
| metadata.jsonl | `datasets`' image folders, diffusers' ControlNet training | file_name, conditioning_image, text |
| prompt.json | the original repository's tutorial (fill50k) | target, source, prompt |

Each line is a JSON object; paths are relative to the folder. Columns of other names are given, never guessed.
"""

import json
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from maquette.data.sources.jsonl import AS_USUAL, BadRow, Columns, File, Names, Row, RowError
from maquette.errors import MaquetteError

LAYOUTS = {
    "metadata.jsonl": Names("file_name", "conditioning_image", "text"),
    "prompt.json": Names("target", "source", "prompt"),
}


class Folder:
    """The rows of a folder; no image is opened. Of each line it keeps where it starts: 12 bytes.

    Args:
        columns: names other than the layout's own.

    Raises `MaquetteError` when the folder has none of the layouts, or no line has the columns.
    """

    def __init__(self, folder: Path, columns: Columns = AS_USUAL) -> None:
        index = find_index(folder)
        if index is None:
            raise MaquetteError(
                f"{str(folder)!r} holds no {' and no '.join(LAYOUTS)}; write a metadata.jsonl into it, a line a "
                'image: {"file_name": "1.png", "conditioning_image": "edges/1.png", "text": "a red house"}.'
            )
        self.index = index
        self.names = columns.over(LAYOUTS[index.name])
        self.faults: list[BadRow] = []
        self._scan()
        if not len(self):
            first = f" The first line: {self.faults[0].reason}" if self.faults else " It is empty."
            raise MaquetteError(f"{str(index)!r} holds no row that can be read.{first}")

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> Row:
        with self.index.open("rb") as file:
            file.seek(self._starts[number])
            found = _row(file.readline(), f"{self.index}:{self._lines[number]}", self.index.parent, self.names)
        if isinstance(found, BadRow):
            raise RowError(found.where, f"{found.reason}; it was a row when the folder was opened")
        return found

    def _scan(self) -> None:
        starts, lines = array("q"), array("I")
        at = 0
        with self.index.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    found = _row(line, f"{self.index}:{number}", self.index.parent, self.names)
                    if isinstance(found, BadRow):
                        self.faults.append(found)
                    else:
                        starts.append(at)
                        lines.append(number)
                at += len(line)
        self._starts = np.frombuffer(starts, np.int64)  # bytes
        self._lines = np.frombuffer(lines, np.uint32)


def find_index(folder: Path) -> Path | None:
    """The file that says which images are pairs, if a folder has one."""
    return next((folder / name for name in LAYOUTS if (folder / name).is_file()), None)


def _row(line: bytes, where: str, folder: Path, names: Names) -> Row | BadRow:
    try:
        values: Any = json.loads(line)
    except ValueError as error:  # of JSON, or of UTF-8
        return BadRow(where, f"is not JSON ({error})")
    if not isinstance(values, dict):
        return BadRow(where, "is no JSON object")
    for name in filter(None, (names.image, names.text, names.condition)):
        if name not in values:
            return BadRow(where, f"has no {name!r} (it has: {', '.join(map(repr, values))}); say what it is called")
        if not isinstance(values[name], str):
            return BadRow(where, f"{name!r} is not a text but {values[name]!r}")
    condition = File(folder / values[names.condition]) if names.condition else None
    text = values[names.text] if names.text else ""
    return Row(where, File(folder / values[names.image]), condition, text)
