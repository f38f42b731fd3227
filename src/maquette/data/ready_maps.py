"""What a sample of a data set's ready condition maps tells: whether training has to resize them, or to colour them."""

import io
from collections.abc import Iterator

import numpy as np

from maquette.conditions.labels import unpainted
from maquette.conditions.registry import detectors
from maquette.data.pairs import SourcePairs
from maquette.data.sources.jsonl import size_of
from maquette.errors import MaquetteError
from maquette.foundation.images import Order

SAMPLED = 16  # rows, spread over the source

Sizes = tuple[tuple[int, int], tuple[int, int]]  # (width, height) of a map, and of its frame


def order_of(pairs: SourcePairs) -> Order | None:
    """The order in which the conditions came to their frames; None for ready maps that no known detector makes.

    A map of its frame's size was detected there; any other was detected first and is resized.
    """
    if pairs.detect is not None:
        return "frame, then detect"
    if pairs.condition not in detectors:
        return None
    sizes = list(_sizes(pairs))
    if not sizes:
        return None
    return "frame, then detect" if all(size == frame for size, frame in sizes) else "detect, then resize"


def warnings_of(pairs: SourcePairs) -> Iterator[str]:
    """Sentences on lines that lose their thinness by resizing, and on class numbers that no palette colours."""
    if pairs.detect is None and pairs.framing.kind == "lines":
        resized = next(((size, frame) for size, frame in _sizes(pairs) if size != frame), None)
        if resized is not None:
            yield _resized(pairs.condition, *resized)
    if pairs.detect is None and pairs.framing.kind == "classes" and pairs.palette is None:
        words = _unpainted(pairs, 0)
        if words is not None:
            yield words


def _resized(condition: str, size: tuple[int, int], frame: tuple[int, int]) -> str:
    (width, height), (w, h) = size, frame
    return (
        f"There are {condition} maps of {width}×{height}, which training resizes to {w}×{h}: their lines stay whole, "
        "but are not those that detection finds at that size. Detect at the training size instead, with maquette data "
        f"annotate --size {w}x{h} or with --detect; otherwise maquette generate will detect before it resizes, too."
    )


def _rows(pairs: SourcePairs) -> list[int]:
    return np.unique(np.linspace(0, len(pairs) - 1, SAMPLED).astype(int)).tolist()


def _sizes(pairs: SourcePairs) -> Iterator[Sizes]:
    """The sizes of the sampled maps that can be read."""
    for row in _rows(pairs):
        try:
            condition = pairs.source[row].condition
            if condition is not None:
                yield size_of(condition), pairs.shape(row)
        except MaquetteError:
            continue


def _unpainted(pairs: SourcePairs, row: int) -> str | None:
    try:
        condition = pairs.source[row].condition
        return unpainted(io.BytesIO(condition.read()), condition.name) if condition is not None else None
    except (MaquetteError, OSError):
        return None
