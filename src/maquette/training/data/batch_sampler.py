"""Which rows go into which step: all of them once an epoch, in an order that the seed decides.

Nothing is remembered, so a resumed run and one of several processes know the order as the first one did.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]


def epoch(blocks: Sequence[Rows], window: int, rng: np.random.Generator) -> Rows:
    """All rows once: the blocks shuffled, then each row moved by up to `window` places.

    Blocks of one row are shuffled evenly. Blocks of many, as shards of an archive, are still read nearly from end to
    end: this is a shuffle buffer of `window` rows, of row numbers in place of images.
    """
    laid = np.concatenate([blocks[number] for number in rng.permutation(len(blocks))])
    if len(laid) == len(blocks):
        return laid
    return laid[np.argsort(np.arange(len(laid)) + rng.uniform(0, window, len(laid)))]


def endless(blocks: Sequence[Rows], window: int, seed: int, group: int) -> Iterator[int]:
    """One epoch after another."""
    number = 0
    while True:
        yield from epoch(blocks, window, np.random.default_rng((seed, group, number))).tolist()
        number += 1


def batches(groups: Sequence[Sequence[Rows]], batch_size: int, window: int, seed: int) -> Iterator[list[int]]:
    """The rows of step 0, 1, ...; each batch from one group, and each group by its share of the rows.

    Args:
        groups: rows of one shape each, in blocks.
    """
    streams = [endless(blocks, window, seed, number) for number, blocks in enumerate(groups)]
    sizes = np.array([sum(map(len, blocks)) for blocks in groups])
    due = np.random.default_rng(seed).uniform(0, 1, len(groups))  # where each group stands in its share
    while True:
        due += sizes / sizes.sum()
        chosen = int(due.argmax())
        due[chosen] -= 1
        yield [next(streams[chosen]) for _ in range(batch_size)]


def grouped(blocks: Sequence[Rows], shapes: Sequence[tuple[int, int]]) -> list[list[Rows]]:
    """Blocks split by their rows' shapes (one a row number)."""
    kinds = sorted(set(shapes))
    if len(kinds) == 1:
        return [list(blocks)]
    kind_of = np.array([kinds.index(shape) for shape in shapes])
    parts = [[block[kind_of[block] == kind] for block in blocks] for kind in range(len(kinds))]
    return [[block for block in group if len(block)] for group in parts if any(map(len, group))]
