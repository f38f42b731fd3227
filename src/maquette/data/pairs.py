"""Training pairs by row number: an image, its condition map and its text."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.data.blocks import Blocks
from maquette.data.crop import CropView, ResizeCrop
from maquette.data.sizes import Kept, read_sizes
from maquette.data.sources.jsonl import (
    Example,
    OpenImage,
    Row,
    RowError,
    Source,
    condition_opener,
    read,
    read_condition,
)

ConditionFn = Callable[[Image.Image, np.random.Generator | None], Image.Image]
"""An image and a random generator for the detector's parameters (None: the default ones) in; a condition map out."""


class Pairs(Protocol):
    """Pairs by row number, as the model sees them. Unreadable rows raise `RowError`."""

    @property
    def condition(self) -> str:
        """The condition's name."""

    def __len__(self) -> int: ...

    def blocks(self) -> Blocks:
        """The rows to train on, grouped as they are stored: blocks are shuffled, then neighbouring rows."""

    def shape(self, row: int) -> tuple[int, int]:
        """Width and height in pixels."""

    def views(self) -> tuple[CropView, ...] | None:
        """All views of a pair; None if there is no finite number of them."""

    def view(self, rng: np.random.Generator) -> CropView:
        """A random view."""

    def content(self, row: int) -> bytes:
        """A digest of the image and its frame, without the view."""

    def signature(self, row: int) -> bytes:
        """What changes with the image, its frame or the text, without reading the image where its file tells."""

    def where(self, row: int) -> str:
        """The row's location, for messages."""

    def text(self, row: int) -> str: ...

    def conflicting(self, row: int) -> str:
        """A text that names other things than the image shows, always the same one."""

    def image(self, row: int, view: CropView) -> Image.Image: ...

    def pair(self, row: int, view: CropView, rng: np.random.Generator | None) -> Example:
        """Image, condition map and text."""

    def condition_map(self, row: int, view: CropView, rng: np.random.Generator | None) -> Image.Image:
        """The condition map alone: with random detector parameters, or without `rng` the default ones."""

    def ground_truth(self, row: int) -> Any:
        """What `metrics.fidelity` compares a generated image with."""


@dataclass(frozen=True)
class SourcePairs:
    """The user's pairs.

    Args:
        condition: the condition's name: a detector's, or any other.
        detect: computes the conditions from the images in their frames; None if the source has them.
        palette: of conditions that hold class numbers; None for colours.
    """

    condition: str
    source: Source
    framing: ResizeCrop
    detect: ConditionFn | None = None
    sizes: NDArray[np.int32] | None = None  # (n, 2): width and height of each image, if frames differ
    palette: str | None = None

    @staticmethod
    def open(
        condition: str,
        source: Source,
        framing: ResizeCrop,
        detect: ConditionFn | None = None,
        palette: str | None = None,
        kept: Kept | None = None,
    ) -> "SourcePairs":
        """With buckets, this reads the size of every image first.

        Args:
            kept: the sizes of earlier starts, and where those that are read now are kept.
        """
        sizes = read_sizes(source, kept) if framing.buckets else None
        return SourcePairs(condition, source, framing, detect, sizes, palette)

    def __len__(self) -> int:
        return len(self.source)

    def blocks(self) -> Blocks:
        lengths = getattr(self.source, "blocks", None)  # rows per shard: shards are best read from end to end
        return Blocks(np.arange(len(self))) if lengths is None else Blocks.of_lengths(lengths)

    def shape(self, row: int) -> tuple[int, int]:
        if self.sizes is None:
            return self.framing.size
        width, height = self.sizes[row].tolist()
        return self.framing.shape((width, height))

    def shapes(self) -> NDArray[np.int32]:
        """Width and height of every row in pixels, (n, 2)."""
        if self.sizes is None:
            return np.broadcast_to(np.array(self.framing.size, np.int32), (len(self), 2))
        codes, which = np.unique(self.sizes[:, 0].astype(np.int64) << 32 | self.sizes[:, 1], return_inverse=True)
        distinct = [self.framing.shape((code >> 32, code & 0xFFFFFFFF)) for code in codes.tolist()]
        return np.array(distinct, np.int32)[which]

    def views(self) -> tuple[CropView, ...] | None:
        return self.framing.views()

    def view(self, rng: np.random.Generator) -> CropView:
        return self.framing.view(rng)

    def content(self, row: int) -> bytes:
        """A digest of the image's bytes and its frame. Raises `RowError` if the image cannot be read."""
        return self._content(self.source[row], row)

    def signature(self, row: int) -> bytes:
        """What changes with the image, its frame or the text. Raises `RowError` if the image cannot be found."""
        stored = self.source[row]
        with _readable(stored):
            mark = stored.image.mark() or self._content(stored, row)
        return b"/".join((mark, repr(self.shape(row)).encode(), stored.text.encode()))

    def _content(self, stored: Row, row: int) -> bytes:
        with _readable(stored):
            digest = hashlib.blake2b(stored.image.read())
        digest.update(repr(self.shape(row)).encode())
        return digest.digest()

    def where(self, row: int) -> str:
        try:
            return self.source[row].where
        except RowError as error:
            return error.fault.where

    def text(self, row: int) -> str:
        return self.source[row].text

    def conflicting(self, row: int) -> str:
        """Another row's text, its own where there is no other. Raises `RowError` if that row cannot be parsed."""
        others = max(len(self) - 1, 1)
        return self.text((row + 1 + int(np.random.default_rng(row).integers(others))) % len(self))

    def image(self, row: int, view: CropView) -> Image.Image:
        without_condition = replace(self.source[row], condition=None)
        return self.framing.frame(read(without_condition), view).image

    def pair(self, row: int, view: CropView, rng: np.random.Generator | None) -> Example:
        framed = self.framing.frame(read(self.source[row], self._open_condition), view)
        condition = self.detect(framed.image, rng) if self.detect else framed.condition
        return Example(framed.image, condition, framed.text)

    def condition_map(self, row: int, view: CropView, rng: np.random.Generator | None) -> Image.Image:
        if self.detect is not None:
            return self.detect(self.image(row, view), rng)
        condition = read_condition(self.source[row], self._open_condition)
        return self.framing.frame_condition(condition, self.shape(row), view)

    def ground_truth(self, row: int) -> Image.Image:
        return self.condition_map(row, CropView(), None)

    @property
    def _open_condition(self) -> OpenImage:
        return condition_opener(self.framing.kind, self.palette)


@contextmanager
def _readable(row: Row) -> Iterator[None]:
    """Raises `RowError` for an `OSError` inside."""
    try:
        yield
    except OSError as error:
        raise RowError(row.where, f"{row.image.name!r} cannot be read ({error})") from error
