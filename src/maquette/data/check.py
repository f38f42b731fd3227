"""Every row of a data set read before anything is trained on it: what is broken, what is odd, how it looks."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from maquette.data.folder import Columns, Fault, find_rows
from maquette.data.framing import Framing
from maquette.data.rows import Example, Row, peculiarities, read
from maquette.errors import MaquetteError
from maquette.foundation.images import from_signed, to_signed
from maquette.foundation.sheets import sheet

SHOWN = 8  # pairs on the grid
MOST_NOTES = 40  # that are printed


@dataclass
class Report:
    """What was found in the rows, in their order."""

    usable: int = 0
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # usable, and worth knowing
    frames: Counter[tuple[int, int]] = field(default_factory=Counter)  # the frame of each picture
    words: list[int] = field(default_factory=list)  # in each text
    grid: Image.Image | None = None

    def __str__(self) -> str:
        lines = [f"{fault.where}: {fault.reason}" for fault in self.faults]
        lines += [f"{note}." for note in self.notes[:MOST_NOTES]]
        if len(self.notes) > MOST_NOTES:
            lines.append(f"and {len(self.notes) - MOST_NOTES} more such notes.")
        frames = ", ".join(f"{w}×{h}: {count}" for (w, h), count in self.frames.most_common())
        lines += [f"{self.usable} rows can be used, {len(self.faults)} cannot.", f"frames   {frames}"]
        if self.words:
            least, middle, most = np.percentile(self.words, [0, 50, 100]).astype(int)
            lines.append(f"words    {least} to {most}, half of the texts {middle} or fewer")
        return "\n".join(lines)


def check(folder: Path, framing: Framing, columns: Columns | None = None) -> Report:
    """Read all rows of a folder, several at a time.

    The grid shows the first pairs as a model would see them, made from its very tensors.
    """
    rows, faults = find_rows(folder, columns)
    report = Report(faults=faults)
    usable: list[Row] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for row, found in tqdm(zip(rows, pool.map(_examine, rows), strict=True), total=len(rows), desc="reading"):
            if isinstance(found, Fault):
                report.faults.append(found)
                continue
            size, notes = found
            usable.append(row)
            report.notes += [f"{row.where}: {note}" for note in notes]
            report.frames[framing.shape(size)] += 1
            report.words.append(len(row.text.split()))
    report.usable = len(usable)
    if usable:
        report.grid = _grid([framing.frame(read(row), np.random.default_rng(0)) for row in usable[:SHOWN]])
    return report


def _examine(row: Row) -> Fault | tuple[tuple[int, int], list[str]]:
    """A picture's size and what is odd about the row; not the picture, of which memory would fill."""
    try:
        return read(row).picture.size, list(_notes(row))
    except MaquetteError as error:
        return Fault(row.where, str(error).removeprefix(f"{row.where}: "))


def _notes(row: Row) -> Iterator[str]:
    for path in filter(None, (row.picture, row.condition)):
        yield from peculiarities(path)
    if not row.text.strip():
        yield "the text is empty"


def _grid(examples: Sequence[Example]) -> Image.Image:
    """Pictures above their conditions, through the tensors and back."""
    rows = [[example.picture for example in examples], [one.condition for one in examples if one.condition]]
    side = max(max(picture.size) for picture in rows[0])
    tiles = [[_seen(picture, side) for picture in row] for row in rows if row]
    return sheet(tiles, labels=("picture", "condition")[: len(tiles)], tile=min(side, 256))


def _seen(picture: Image.Image, side: int) -> Image.Image:
    return ImageOps.pad(from_signed(to_signed(picture)[None])[0], (side, side), color="white")
