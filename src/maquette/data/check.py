"""Check every row of a data set before training on it: what is broken, what is unusual, how the pairs look."""

import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from maquette.conditions.labels import unpainted
from maquette.data.crop import CropView, ResizeCrop
from maquette.data.prefetch import in_order
from maquette.data.sources.jsonl import (
    BadRow,
    Example,
    OpenImage,
    Row,
    RowError,
    Source,
    condition_opener,
    peculiarities,
    read,
)
from maquette.foundation.images import image_grid
from maquette.foundation.pixels import from_signed, to_signed, to_unit

SHOWN = 8  # pairs on the grid
MOST_NOTES = 40  # kept in a report
AHEAD = 8  # rows queued per thread


@dataclass
class Report:
    """The findings, in the order of the rows."""

    usable: int = 0
    faults: list[BadRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # on usable rows
    more_notes: int = 0  # beyond those kept
    frames: Counter[tuple[int, int]] = field(default_factory=Counter)  # (width, height): number of images
    text_lengths: list[int] = field(default_factory=list)  # in words
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
        if self.text_lengths:
            least, middle, most = np.percentile(self.text_lengths, [0, 50, 100]).astype(int)
            lines.append(f"words    {least} to {most}, half of the texts {middle} or fewer")
        return "\n".join(lines)


@dataclass(frozen=True)
class _RowStats:
    """What is kept of a usable row: not the image, or memory would fill up."""

    size: tuple[int, int]  # (width, height) of the image
    text_length: int  # in words
    notes: list[str]


def check(source: Source, framing: ResizeCrop, palette: str | None = None) -> Report:
    """Read all rows of a data set, several at a time.

    Args:
        palette: of conditions that hold class numbers.

    The report's grid shows the first pairs as the model sees them: it is converted back from the model's tensors.
    """
    report = Report(faults=list(source.faults))
    open_condition = condition_opener(framing.kind, palette)
    notes = partial(_notes, seeks_numbers=framing.kind == "classes" and palette is None)
    shown: list[int] = []
    for number, row in enumerate(
        tqdm(_examined(partial(_examine, source, open_condition, notes), len(source)), "reading", len(source))
    ):
        if isinstance(row, BadRow):
            report.faults.append(row)
            continue
        report.usable += 1
        report.note(row.notes)
        report.frames[framing.shape(row.size)] += 1
        report.text_lengths.append(row.text_length)
        if len(shown) < SHOWN:
            shown.append(number)
    if shown:
        report.grid = _grid([framing.frame(read(source[number], open_condition), CropView()) for number in shown])
    return report


def _examined(examine: Callable[[int], BadRow | _RowStats], count: int) -> Iterator[BadRow | _RowStats]:
    """All rows in order, with a bounded number in flight."""
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(pool, examine, range(count), AHEAD * threads)


def _examine(
    source: Source, open_condition: OpenImage, notes: Callable[[Row, Example], Iterator[str]], number: int
) -> BadRow | _RowStats:
    try:
        row = source[number]
        example = read(row, open_condition)
        found = [f"{row.where}: {note}" for note in notes(row, example)]
    except RowError as error:
        return error.fault
    return _RowStats(example.image.size, len(row.text.split()), found)


def _notes(row: Row, example: Example, seeks_numbers: bool) -> Iterator[str]:
    """What is unusual about a row; with `seeks_numbers`, also a class map that seems to hold numbers."""
    for image in filter(None, (row.image, row.condition)):
        yield from peculiarities(image)
    if example.condition is not None and example.condition.getbbox() is None:
        yield "the condition map is black: it shows nothing to follow, and of poses nobody"
    if seeks_numbers and row.condition is not None:
        found = unpainted(io.BytesIO(row.condition.read()), row.condition.name)
        yield from [found.rstrip(".")] if found else []
    if not row.text.strip():
        yield "the text is empty"


def _grid(examples: Sequence[Example]) -> Image.Image:
    """Images above their conditions, converted to the model's tensors and back."""
    rows = [[from_signed(to_signed(example.image)[None])[0] for example in examples]]
    if all(example.condition for example in examples):
        conditions = [example.condition for example in examples if example.condition]
        rows.append([from_signed(to_unit(condition)[None] * 2 - 1)[0] for condition in conditions])
    side = max(max(image.size) for image in rows[0])
    tiles = [[ImageOps.pad(image, (side, side), color="white") for image in row] for row in rows]
    return image_grid(tiles, labels=("image", "condition")[: len(tiles)], tile=min(side, 256))
