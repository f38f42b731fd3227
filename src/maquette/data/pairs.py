"""What a training draws from: images with a condition map and words each, by number."""

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
from maquette.data.sources.jsonl import Example, RowError, Source, read, read_condition, size_of
from maquette.errors import MaquetteError

ConditionFn = Callable[[Image.Image, np.random.Generator | None], Image.Image]
"""A detector: an image and a source of chance for its parameters, its usual ones without; a condition map."""


class Pairs(Protocol):
    """Pairs by number, as a model sees them. What cannot be read raises `RowError`."""

    @property
    def condition(self) -> str:
        """What steers, by name."""

    def __len__(self) -> int: ...

    def blocks(self) -> Sequence[NDArray[np.intp]]:
        """The rows to train on, as they lie together: blocks are shuffled, then rows near one another."""

    def shape(self, row: int) -> tuple[int, int]:
        """Width and height in pixels."""

    def views(self) -> tuple[CropView, ...] | None:
        """All views of a pair; None where they cannot be counted."""

    def view(self, rng: np.random.Generator) -> CropView: ...

    def content(self, row: int) -> bytes:
        """A digest of the image and of how it comes to its frame, but for the view."""

    def where(self, row: int) -> str:
        """The row's place, for messages."""

    def text(self, row: int) -> str: ...

    def image(self, row: int, view: CropView) -> Image.Image: ...

    def pair(self, row: int, view: CropView, rng: np.random.Generator | None) -> Example:
        """Image, condition map and words."""

    def condition_map(self, row: int, view: CropView, rng: np.random.Generator | None) -> Image.Image:
        """The condition map alone, with the chance that its detector takes; its usual parameters without `rng`."""

    def ground_truth(self, row: int) -> Any:
        """What `metrics.fidelity` compares a generated image with."""


@dataclass(frozen=True)
class SourcePairs:
    """Pairs of a user's own.

    Args:
        condition: what the condition is called: a detector's name, or any word.
        detect: draws the conditions from the images; the source has them without.
    """

    condition: str
    source: Source
    framing: ResizeCrop
    detect: ConditionFn | None = None
    sizes: Sequence[tuple[int, int]] | None = None  # of the images, where frames differ

    @staticmethod
    def open(condition: str, source: Source, framing: ResizeCrop, detect: ConditionFn | None = None) -> "SourcePairs":
        """With buckets, the size of every image is read first."""
        sizes = None
        if framing.buckets:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                sizes = list(pool.map(lambda row: _size(source, row), range(len(source))))
        return SourcePairs(condition, source, framing, detect, sizes)

    def __len__(self) -> int:
        return len(self.source)

    def blocks(self) -> Sequence[NDArray[np.intp]]:
        lengths = getattr(self.source, "blocks", None)  # of shards, which are best read from end to end
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
        found = self.source[row]
        try:
            digest = hashlib.blake2b(found.image.read())
        except OSError as error:
            raise RowError(found.where, f"{found.image.name!r} cannot be read ({error})") from error
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
        found = self.source[row]
        return self.framing.frame(read(replace(found, condition=None)), view).image

    def pair(self, row: int, view: CropView, rng: np.random.Generator | None) -> Example:
        seen = self.framing.frame(read(self.source[row]), view)
        return Example(seen.image, self.detect(seen.image, rng) if self.detect else seen.condition, seen.text)

    def condition_map(self, row: int, view: CropView, rng: np.random.Generator | None) -> Image.Image:
        if self.detect is not None:
            return self.detect(self.image(row, view), rng)
        return self.framing.frame_condition(read_condition(self.source[row]), self.shape(row), view)

    def ground_truth(self, row: int) -> Image.Image:
        return self.condition_map(row, CropView(), None)


def _size(source: Source, row: int) -> tuple[int, int]:
    """A square for an image that cannot be read, which is told of when it is drawn."""
    try:
        return size_of(source[row].image)
    except MaquetteError:
        return (1, 1)
