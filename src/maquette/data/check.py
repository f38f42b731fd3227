"""Every row of a data set read before anything is trained on it: what is broken, what is odd, how it looks."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from maquette.data.crop import CropView, ResizeCrop
from maquette.data.prefetch import in_order
from maquette.data.sources.jsonl import BadRow, Example, Row, RowError, Source, peculiarities, read
from maquette.foundation.image_grid import image_grid
from maquette.foundation.pixels import from_signed, to_signed, to_unit

SHOWN = 8  # pairs on the grid
MOST_NOTES = 40  # that are kept
AHEAD = 8  # rows a thread that are read, or wait to be, while one is looked at


@dataclass
class Report:
    """What was found in the rows, in their order."""

    usable: int = 0
    faults: list[BadRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # usable, and worth knowing
    more_notes: int = 0  # that are not kept
    frames: Counter[tuple[int, int]] = field(default_factory=Counter)  # the frame of each image
    words: list[int] = field(default_factory=list)  # in each text
    grid: Image.Image | None = None

    def note(self, notes: Sequence[str]) -> None:
        room = MOST_NOTES - len(self.notes)
        self.notes += notes[:room]
        self.more_notes += len(notes[room:])

    def __str__(self) -> str:
        lines = [f"{fault.where}: {fault.reason}" for fault in self.faults]
        lines += [f"{note}." for note in self.notes]
        if self.more_notes:
            lines.append(f"and {self.more_notes} more such notes.")
        frames = ", ".join(f"{w}×{h}: {count}" for (w, h), count in self.frames.most_common())
        lines += [f"{self.usable} rows can be used, {len(self.faults)} cannot.", f"frames   {frames}"]
        if self.words:
            least, middle, most = np.percentile(self.words, [0, 50, 100]).astype(int)
            lines.append(f"words    {least} to {most}, half of the texts {middle} or fewer")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Seen:
    """What is kept of a row that can be used; not the image, of which memory would fill."""

    size: tuple[int, int]
    words: int
    notes: list[str]


def check(source: Source, framing: ResizeCrop) -> Report:
    """Read all rows of a data set, several at a time.

    The grid shows the first pairs as a model would see them, made from its very tensors.
    """
    report = Report(faults=list(source.faults))
    shown: list[int] = []
    for number, found in enumerate(tqdm(_examined(source), "reading", len(source))):
        if isinstance(found, BadRow):
            report.faults.append(found)
            continue
        report.usable += 1
        report.note(found.notes)
        report.frames[framing.shape(found.size)] += 1
        report.words.append(found.words)
        if len(shown) < SHOWN:
            shown.append(number)
    if shown:
        report.grid = _grid([framing.frame(read(source[number]), CropView()) for number in shown])
    return report


def _examined(source: Source) -> Iterator[BadRow | _Seen]:
    """All rows in their order, a bounded number of them under way."""
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(pool, partial(_examine, source), range(len(source)), AHEAD * threads)


def _examine(source: Source, number: int) -> BadRow | _Seen:
    try:
        row = source[number]
        example = read(row)
    except RowError as error:
        return error.fault
    return _Seen(example.image.size, len(row.text.split()), [f"{row.where}: {note}" for note in _notes(row)])


def _notes(row: Row) -> Iterator[str]:
    for stored in filter(None, (row.image, row.condition)):
        yield from peculiarities(stored)
    if not row.text.strip():
        yield "the text is empty"


def _grid(examples: Sequence[Example]) -> Image.Image:
    """Images above their conditions, through the tensors and back."""
    rows = [[from_signed(to_signed(example.image)[None])[0] for example in examples]]
    if all(example.condition for example in examples):
        rows.append([from_signed(to_unit(one.condition)[None] * 2 - 1)[0] for one in examples if one.condition])
    side = max(max(image.size) for image in rows[0])
    tiles = [[ImageOps.pad(image, (side, side), color="white") for image in row] for row in rows]
    return image_grid(tiles, labels=("image", "condition")[: len(tiles)], tile=min(side, 256))
