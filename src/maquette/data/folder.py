"""A data set in a folder, by the conventions that others have: which pictures, which conditions, which words.

| layout | written by | a line |
| --- | --- | --- |
| metadata.jsonl | `datasets`' image folders, diffusers' ControlNet training | file_name, conditioning_image, text |
| prompt.json | the original repository's tutorial (fill50k) | target, source, prompt |

Each line is a JSON object; paths are relative to the folder. Columns of other names are given, never guessed.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.data.rows import Row
from maquette.errors import MaquetteError


@dataclass(frozen=True)
class Columns:
    """What the columns are called."""

    picture: str = "file_name"
    condition: str | None = "conditioning_image"  # None: a detector draws it from the picture
    text: str = "text"


LAYOUTS = {"metadata.jsonl": Columns(), "prompt.json": Columns("target", "source", "prompt")}


@dataclass(frozen=True)
class Fault:
    """A row that cannot be used, and why."""

    where: str
    reason: str


def columns_of(
    folder: Path,
    picture: str | None = None,
    condition: str | None = None,
    text: str | None = None,
    has_conditions: bool = True,
) -> Columns:
    """The columns of a folder's layout, and what the user calls otherwise."""
    usual = LAYOUTS[_index(folder).name]
    shown = (condition or usual.condition) if has_conditions else None
    return Columns(picture or usual.picture, shown, text or usual.text)


def find_rows(folder: Path, columns: Columns | None = None) -> tuple[list[Row], list[Fault]]:
    """The rows of a folder, no picture opened yet, and the lines that are no rows.

    Args:
        columns: names other than the layout's own.

    Raises `MaquetteError` when the folder has none of the layouts, or no line has the columns.
    """
    index = _index(folder)
    columns = columns or LAYOUTS[index.name]
    rows: list[Row] = []
    faults: list[Fault] = []
    for number, line in enumerate(index.read_bytes().splitlines(), start=1):
        if line.strip():
            found = _row(line, f"{index}:{number}", folder, columns)
            (rows if isinstance(found, Row) else faults).append(found)  # type: ignore[arg-type]
    if not rows:
        first = f" The first line: {faults[0].reason}" if faults else " It is empty."
        raise MaquetteError(f"{str(index)!r} holds no row that can be read.{first}")
    return rows, faults


def _index(folder: Path) -> Path:
    found = next((folder / name for name in LAYOUTS if (folder / name).is_file()), None)
    if found is None:
        raise MaquetteError(
            f"{str(folder)!r} holds no {' and no '.join(LAYOUTS)}; write a metadata.jsonl into it, a line a picture: "
            '{"file_name": "1.png", "conditioning_image": "edges/1.png", "text": "a red house"}.'
        )
    return found


def _row(line: bytes, where: str, folder: Path, columns: Columns) -> Row | Fault:
    try:
        values: Any = json.loads(line)
    except ValueError as error:  # of JSON, or of UTF-8
        return Fault(where, f"is not JSON ({error})")
    if not isinstance(values, dict):
        return Fault(where, "is no JSON object")
    wanted = [columns.picture, columns.text, *([columns.condition] if columns.condition else [])]
    for name in wanted:
        if name not in values:
            return Fault(where, f"has no {name!r} (it has: {', '.join(map(repr, values))}); say what it is called")
        if not isinstance(values[name], str):
            return Fault(where, f"{name!r} is not a text but {values[name]!r}")
    condition = folder / values[columns.condition] if columns.condition else None
    return Row(where, folder / values[columns.picture], condition, values[columns.text])
