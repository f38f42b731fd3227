"""Every row once per epoch, in an order that depends on the seed."""

import itertools
import tracemalloc

import numpy as np
import pytest

from maquette.data.blocks import Blocks
from maquette.training.data.batch_sampler import batches, grouped


def singles(count: int) -> Blocks:
    return Blocks(np.arange(count))


def test_every_row_is_seen_once_per_epoch() -> None:
    found = list(itertools.islice(batches([singles(10)], 4, 100, seed=0), 5))
    rows = [row for batch in found for row in batch]
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10] != rows[10:]


def test_the_order_depends_on_the_seed() -> None:
    first, again, other = (list(itertools.islice(batches([singles(50)], 8, 9, seed), 20)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_blocks_are_read_almost_sequentially() -> None:
    """Shards are shuffled as a whole; within them, a row moves by at most the window."""
    order = Blocks.of_lengths([100] * 10).shuffled(20, np.random.default_rng(0))
    assert sorted(order) == list(range(1000))
    shards = [int(np.median(order[start : start + 100])) // 100 for start in range(0, 1000, 100)]
    assert sorted(shards) == list(range(10)) and shards != sorted(shards)
    unshuffled = np.concatenate([np.arange(100) + 100 * shard for shard in shards])
    moved = np.abs(np.argsort(order)[unshuffled] - np.arange(1000))
    assert moved.mean() > 1 and moved.max() <= 20


def test_single_rows_are_shuffled_uniformly() -> None:
    firsts = [singles(5).shuffled(2, np.random.default_rng(seed))[0] for seed in range(500)]
    assert all(60 < count < 140 for count in np.bincount(firsts, minlength=5))


def test_batches_have_one_shape_and_shapes_keep_their_share() -> None:
    shapes = [(64, 64)] * 30 + [(128, 64)] * 10
    groups = grouped(singles(40), np.array(shapes))
    assert [len(group) for group in groups] == [30, 10]
    found = list(itertools.islice(batches(groups, 5, 10, seed=0), 80))
    wide = [batch for batch in found if batch[0] >= 30]
    assert all(len({shapes[row] for row in batch}) == 1 for batch in found)
    assert abs(len(wide) - 20) <= 1
    seen = np.bincount([row for batch in found for row in batch], minlength=40)
    assert seen.min() >= 9 and seen.max() <= 11


def slow_batches(groups: list[list[np.ndarray]], batch_size: int, window: int, seed: int):
    """The order of version 0.2, with one array for each block."""

    def endless(blocks, group):
        for number in itertools.count():
            rng = np.random.default_rng((seed, group, number))
            rows = np.concatenate([blocks[place] for place in rng.permutation(len(blocks))])
            if len(rows) != len(blocks):
                rows = rows[np.argsort(np.arange(len(rows)) + rng.uniform(0, window, len(rows)))]
            yield from rows.tolist()

    streams = [endless(blocks, number) for number, blocks in enumerate(groups)]
    sizes = np.array([sum(map(len, blocks)) for blocks in groups])
    due = np.random.default_rng(seed).uniform(0, 1, len(groups))
    while True:
        due += sizes / sizes.sum()
        chosen = int(due.argmax())
        due[chosen] -= 1
        yield [next(streams[chosen]) for _ in range(batch_size)]


@pytest.mark.parametrize("lengths", [[1] * 60, [20, 0, 7, 1, 32], [1, 1, 1, 57]])
@pytest.mark.parametrize("shaped", [False, True])
def test_the_order_is_what_it_always_was(lengths, shaped) -> None:
    """A run that was started before resumes on the same rows: held-out rows left out, grouped by shape or not."""
    arrays = [block for block in np.split(np.arange(60), np.cumsum(lengths)[:-1]) if len(block)]
    blocks = singles(60) if set(lengths) == {1} else Blocks.of_lengths(lengths)
    shapes = np.array([(64, 64), (128, 64), (64, 128)])[np.random.default_rng(1).integers(3, size=60)]
    distinct = sorted(set(map(tuple, shapes.tolist()))) if shaped else [None]
    parts = [
        [block[(shapes[block] == shape).all(axis=1)] if shape else block for block in arrays] for shape in distinct
    ]
    left = [[block[~np.isin(block, [3, 40])] for block in part] for part in parts]
    slow = [[block for block in part if len(block)] for part in left]
    groups = grouped(blocks, shapes) if shaped else [blocks]
    fast = [group.select(~np.isin(group.rows, [3, 40])) for group in groups]
    expected, found = (itertools.islice(order, 50) for order in (slow_batches(slow, 7, 9, 5), batches(fast, 7, 9, 5)))
    assert list(found) == list(expected)


def test_ten_million_rows_take_no_object_each() -> None:
    """Three arrays of a number each, at most; one million here."""
    count = 1_000_000
    tracemalloc.start()
    blocks = singles(count)
    left = blocks.select(~np.isin(blocks.rows, [5, 6]))
    next(batches([left], 32, 10_000, seed=0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 8 * count
