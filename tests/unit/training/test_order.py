"""Every row once per epoch, in an order that depends on the seed."""

import itertools

import numpy as np

from maquette.training.data.batch_sampler import batches, epoch, grouped


def singles(count: int) -> list[np.ndarray]:
    return list(np.arange(count)[:, None])


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
    blocks = np.split(np.arange(1000), 10)
    order = epoch(blocks, 20, np.random.default_rng(0))
    assert sorted(order) == list(range(1000))
    shards = [int(np.median(order[start : start + 100])) // 100 for start in range(0, 1000, 100)]
    assert sorted(shards) == list(range(10)) and shards != sorted(shards)
    unshuffled = np.concatenate([np.arange(100) + 100 * shard for shard in shards])
    moved = np.abs(np.argsort(order)[unshuffled] - np.arange(1000))
    assert moved.mean() > 1 and moved.max() <= 20


def test_single_rows_are_shuffled_uniformly() -> None:
    firsts = [epoch(singles(5), 2, np.random.default_rng(seed))[0] for seed in range(500)]
    assert all(60 < count < 140 for count in np.bincount(firsts, minlength=5))


def test_batches_have_one_shape_and_shapes_keep_their_share() -> None:
    shapes = [(64, 64)] * 30 + [(128, 64)] * 10
    groups = grouped(singles(40), shapes)
    assert [sum(map(len, group)) for group in groups] == [30, 10]
    found = list(itertools.islice(batches(groups, 5, 10, seed=0), 80))
    wide = [batch for batch in found if batch[0] >= 30]
    assert all(len({shapes[row] for row in batch}) == 1 for batch in found)
    assert abs(len(wide) - 20) <= 1
    seen = np.bincount([row for batch in found for row in batch], minlength=40)
    assert seen.min() >= 9 and seen.max() <= 11
