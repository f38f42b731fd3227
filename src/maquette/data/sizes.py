"""The sizes of a data set's images, which aspect ratio buckets need before the first step: read once, then kept.

This module does not import torch.
"""

import hashlib
import os
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from maquette.data.sources.jsonl import Source, size_of
from maquette.errors import MaquetteError

Sizes = NDArray[np.int32]

AT_ONCE = 8192  # images whose sizes are read, and kept, together
DIGEST = 16  # bytes of a key
UNREADABLE, SQUARE = 0, 1  # the sides that are kept for an image that cannot be read, and used where none can be


class Kept(Protocol):
    """Where sizes are kept between starts."""

    def find(self, key: bytes) -> Sizes | None:
        """The sizes of some rows; None if there are none under this key."""

    def put(self, key: bytes, sizes: Sizes) -> None:
        """Keep the sizes of some rows, in place of those under the same key."""


def read_sizes(source: Source, kept: Kept | None = None) -> Sizes:
    """Width and height of each image, (n, 2), in pixels.

    An image that cannot be read, which is reported when its row is loaded, counts as of the size that most others have,
    since another row of its size takes its place.

    Args:
        kept: sizes of earlier starts, which are read anew where the size, time or inode of a file has changed, and
            where an image could not be read.
    """
    sizes = np.empty((len(source), 2), np.int32)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(source), AT_ONCE):
            rows = range(start, min(start + AT_ONCE, len(source)))
            sizes[rows.start : rows.stop] = _part(source, rows, pool, kept)
    sizes[sizes[:, 0] == UNREADABLE] = _most_frequent(sizes[sizes[:, 0] != UNREADABLE])
    return sizes


def _most_frequent(sizes: Sizes) -> Sizes:
    """The size that most images have, (2,); a square where there is none."""
    if not len(sizes):
        return np.array([SQUARE, SQUARE], np.int32)
    found, counts = np.unique(sizes, axis=0, return_counts=True)
    most: Sizes = found[counts.argmax()]
    return most


def _part(source: Source, rows: range, pool: Executor, kept: Kept | None) -> Sizes:
    """The sizes of some rows, (rows, 2)."""
    key = None if kept is None else _key(source, rows, pool)
    found = kept.find(key) if kept is not None and key is not None else None
    sizes = np.zeros((len(rows), 2), np.int32) if found is None else found.copy()
    missing = np.flatnonzero(sizes[:, 0] == UNREADABLE)
    if len(missing):
        sizes[missing] = list(pool.map(lambda place: _size(source, rows[place]), missing.tolist()))
        if kept is not None and key is not None and (found is None or sizes[missing].any()):
            kept.put(key, sizes)
    return sizes


def _key(source: Source, rows: range, pool: Executor) -> bytes | None:
    """What changes with any of the images; None where only their bytes tell."""
    digest = hashlib.blake2b(b"sizes", digest_size=DIGEST)
    for mark in pool.map(lambda row: _mark(source, row), rows):
        if mark is None:
            return None
        digest.update(mark + b"/")
    return digest.digest()


def _mark(source: Source, row: int) -> bytes | None:
    """The mark of an image; an empty one where its row or file cannot be found."""
    try:
        return source[row].image.mark()
    except (MaquetteError, OSError):
        return b""


def _size(source: Source, row: int) -> tuple[int, int]:
    try:
        return size_of(source[row].image)
    except MaquetteError:
        return (UNREADABLE, UNREADABLE)
