"""Training pairs by row number: an image, its condition map and its text."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.data.crop import CropView, ResizeCrop
from maquette.data.sources.jsonl import (
    Example,
    OpenImage,
    RowError,
    Source,
    condition_opener,
    read,
    read_condition,
    size_of,
)
from maquette.errors import MaquetteError

ConditionFn = Callable[[Image.Image, np.random.Generator | None], Image.Image]
"""An image and a random generator for the detector's parameters (None: the default ones) in; a condition map out."""


class Pairs(Protocol):
    """Pairs by row number, as the model sees them. Unreadable rows raise `RowError`."""

    @property
    def condition(self) -> str:
        """The condition's name."""

    def __len__(self) -> int: ...

    def blocks(self) -> Sequence[NDArray[np.intp]]:
        """The rows to train on, (n,) each, grouped as they are stored: blocks are shuffled, then neighbouring rows."""

    def shape(self, row: int) -> tuple[int, int]:
        """Width and height in pixels."""

    def views(self) -> tuple[CropView, ...] | None:
        """All views of a pair; None if there is no finite number of them."""

    def view(self, rng: np.random.Generator) -> CropView:
        """A random view."""

    def content(self, row: int) -> bytes:
        """A digest of the image and its frame, without the view."""

    def where(self, row: int) -> str:
        """The row's location, for messages."""

    def text(self, row: int) -> str: ...

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
    sizes: Sequence[tuple[int, int]] | None = None  # (width, height) of each image, if frames differ
    palette: str | None = None

    @staticmethod
    def open(
        condition: str,
        source: Source,
        framing: ResizeCrop,
        detect: ConditionFn | None = None,
        palette: str | None = None,
    ) -> "SourcePairs":
        """With buckets, this reads the size of every image first."""
        sizes = None
        if framing.buckets:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                sizes = list(pool.map(lambda row: _size(source, row), range(len(source))))
        return SourcePairs(condition, source, framing, detect, sizes, palette)

    def __len__(self) -> int:
        return len(self.source)

    def blocks(self) -> Sequence[NDArray[np.intp]]:
        lengths = getattr(self.source, "blocks", None)  # rows per shard: shards are best read from end to end
        if lengths is None:
            return list(np.arange(len(self))[:, None])
        return [block for block in np.split(np.arange(len(self)), np.cumsum(lengths)[:-1]) if len(block)]

    def shape(self, row: int) -> tuple[int, int]:
        return self.framing.size if self.sizes is None else self.framing.shape(self.sizes[row])

    def views(self) -> tuple[CropView, ...] | None:
        return self.framing.views()

    def view(self, rng: np.random.Generator) -> CropView:
        return self.framing.view(rng)

    def content(self, row: int) -> bytes:
        """A digest of the image's bytes and its frame. Raises `RowError` if the image cannot be read."""
        stored = self.source[row]
        try:
            digest = hashlib.blake2b(stored.image.read())
        except OSError as error:
            raise RowError(stored.where, f"{stored.image.name!r} cannot be read ({error})") from error
        digest.update(repr(self.shape(row)).encode())
        return digest.digest()

    def where(self, row: int) -> str:
        try:
            return self.source[row].where
        except RowError as error:
            return error.fault.where

    def text(self, row: int) -> str:
        return self.source[row].text

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


def _size(source: Source, row: int) -> tuple[int, int]:
    """(width, height); a square for an unreadable image, which is reported when its row is loaded."""
    try:
        return size_of(source[row].image)
    except MaquetteError:
        return (1, 1)
