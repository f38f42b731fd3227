"""Which rows go into which batch: every row once per epoch, shuffled by the seed.

The sampler has no state, so resumed runs and parallel processes see the same order.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from maquette.data.blocks import Blocks, Rows


class Endless:
    """The rows of one epoch after another."""

    def __init__(self, blocks: Blocks, window: int, seed: int, group: int) -> None:
        self.blocks, self.window, self.seed, self.group = blocks, window, seed, group
        self.number = 0  # of the epoch to be shuffled next
        self.rows: Rows = blocks.rows[:0]  # of this epoch, those to come

    def take(self, count: int) -> list[int]:
        """The next `count` rows."""
        taken: list[int] = []
        while len(taken) < count:
            if not len(self.rows):
                rng = np.random.default_rng((self.seed, self.group, self.number))
                self.rows = self.blocks.shuffled(self.window, rng)
                self.number += 1
            part = count - len(taken)
            taken += self.rows[:part].tolist()
            self.rows = self.rows[part:]
        return taken


def batches(groups: Sequence[Blocks], batch_size: int, window: int, seed: int) -> Iterator[list[int]]:
    """The rows of steps 0, 1, ...; a batch comes from one group, and groups take turns in proportion to their size.

    Args:
        groups: rows of the same shape each.
        window: how far a row of a block may move within an epoch, in rows.
    """
    streams = [Endless(blocks, window, seed, number) for number, blocks in enumerate(groups)]
    sizes = np.array([len(blocks) for blocks in groups])
    due = np.random.default_rng(seed).uniform(0, 1, len(groups))  # credit of each group; the largest goes next
    while True:
        due += sizes / sizes.sum()
        chosen = int(due.argmax())
        due[chosen] -= 1
        yield streams[chosen].take(batch_size)


def grouped(blocks: Blocks, shapes: NDArray[np.integer]) -> list[Blocks]:
    """Blocks split by the shapes of their rows, in ascending order of the shapes.

    Args:
        shapes: (rows of the data set, 2): width and height of each row, in pixels.
    """
    codes = shapes[blocks.rows, 0].astype(np.int64) << 32 | shapes[blocks.rows, 1]
    groups = (blocks.select(codes == code) for code in np.unique(codes))
    return [group for group in groups if len(group)]
