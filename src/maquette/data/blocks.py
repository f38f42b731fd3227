"""The rows of a data set in the blocks that they are stored in, as one array: no object for each row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Blocks:
    """Rows (n,) in ascending order, and the block that each belongs to.

    Args:
        ends: (blocks,): where each block ends in `rows`; None where each row is a block of its own.
    """

    rows: Rows
    ends: Rows | None = None

    @staticmethod
    def of_lengths(lengths: Sequence[int]) -> "Blocks":
        """Rows 0, 1, ... in blocks of so many rows, such as tar shards."""
        return Blocks(np.arange(sum(lengths)), _ends(np.asarray(lengths, np.intp)))

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.rows)

    def select(self, chosen: NDArray[np.bool_]) -> "Blocks":
        """The rows at which `chosen` (n,) is True, in the blocks that still have any."""
        if self.ends is None:
            return Blocks(self.rows[chosen])
        counted = np.concatenate([[0], np.cumsum(chosen)])
        return Blocks(self.rows[chosen], _ends(np.diff(counted[self.ends], prepend=0)))

    def shuffled(self, window: int, rng: np.random.Generator) -> Rows:
        """All rows once, (n,): the blocks shuffled, then each row moved by up to `window` places.

        Blocks of one row are shuffled uniformly. Larger ones, such as tar shards, are still read almost sequentially:
        the window acts as a shuffle buffer, but of row numbers, not images.
        """
        if self.ends is None:
            return self.rows[rng.permutation(len(self.rows))]
        blocks = np.split(self.rows, self.ends[:-1])
        rows = np.concatenate([blocks[number] for number in rng.permutation(len(blocks))])
        if len(rows) == len(blocks):
            return rows
        return rows[np.argsort(np.arange(len(rows)) + rng.uniform(0, window, len(rows)))]


def _ends(lengths: Rows) -> Rows:
    return np.cumsum(lengths[lengths > 0])
