"""Which rows go into which batch: every row once per epoch, shuffled by the seed.

The sampler has no state, so resumed runs and parallel processes see the same order.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]


def epoch(blocks: Sequence[Rows], window: int, rng: np.random.Generator) -> Rows:
    """All rows once: the blocks shuffled, then each row moved by up to `window` places.

    Blocks of one row are shuffled uniformly. Larger blocks, such as tar shards, are still read almost sequentially:
    the window acts as a shuffle buffer, but of row numbers, not images.
    """
    rows = np.concatenate([blocks[number] for number in rng.permutation(len(blocks))])
    if len(rows) == len(blocks):
        return rows
    return rows[np.argsort(np.arange(len(rows)) + rng.uniform(0, window, len(rows)))]


def endless(blocks: Sequence[Rows], window: int, seed: int, group: int) -> Iterator[int]:
    """The rows of one epoch after another."""
    number = 0
    while True:
        yield from epoch(blocks, window, np.random.default_rng((seed, group, number))).tolist()
        number += 1


def batches(groups: Sequence[Sequence[Rows]], batch_size: int, window: int, seed: int) -> Iterator[list[int]]:
    """The rows of steps 0, 1, ...; a batch comes from one group, and groups take turns in proportion to their size.

    Args:
        groups: blocks of rows; all rows of a group have the same shape.
    """
    streams = [endless(blocks, window, seed, number) for number, blocks in enumerate(groups)]
    sizes = np.array([sum(map(len, blocks)) for blocks in groups])
    due = np.random.default_rng(seed).uniform(0, 1, len(groups))  # credit of each group; the largest goes next
    while True:
        due += sizes / sizes.sum()
        chosen = int(due.argmax())
        due[chosen] -= 1
        yield [next(streams[chosen]) for _ in range(batch_size)]


def grouped(blocks: Sequence[Rows], shapes: Sequence[tuple[int, int]]) -> list[list[Rows]]:
    """Blocks split by the shapes of their rows; `shapes` is indexed by row number."""
    distinct = sorted(set(shapes))
    if len(distinct) == 1:
        return [list(blocks)]
    shape_index = np.array([distinct.index(shape) for shape in shapes])
    groups = [[block[shape_index[block] == index] for block in blocks] for index in range(len(distinct))]
    return [[block for block in group if len(block)] for group in groups if any(map(len, group))]
