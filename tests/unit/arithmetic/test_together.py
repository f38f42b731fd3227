"""Several computations at once: their bits are those that each has alone, and none holds another up."""

import gc
import weakref
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from maquette.arithmetic.fast import fast
from maquette.arithmetic.together import Together, shared


class Network(nn.Module):
    """Few rows, many rows and groups, which batches treat in other ways."""

    def __init__(self) -> None:
        super().__init__()
        self.time, self.wide = nn.Linear(384, 384), nn.Linear(32, 96)
        self.norm, self.conv = nn.GroupNorm(4, 96), nn.Conv2d(96, 32, 3, padding=1)
        self.rows: list[int] = []

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        self.rows.append(len(x))
        x = self.wide(x.flatten(2).mT).mT.unflatten(2, x.shape[2:])
        added = self.time(time.expand(len(x))[:, None] * torch.ones(384))[:, :32]
        return self.conv(self.norm(x)) + added[:, :, None, None]


def computed(network, results: dict, number: int, steps: int = 3) -> None:
    x = torch.randn((2, 32, 8, 8), generator=torch.Generator().manual_seed(number))
    for step in range(steps):
        x = shared(network, x, torch.tensor(float(10 * number + step)))
    results[number] = x


@torch.no_grad()
def test_a_batch_has_the_bits_of_single_runs() -> None:
    torch.manual_seed(0)
    network, alone, together = Network(), {}, {}
    with fast(network):
        for number in range(5):
            computed(network, alone, number)
        network.rows.clear()
        Together().run([partial(computed, network, together, number) for number in range(5)])
    assert all(torch.equal(together[number], alone[number]) for number in range(5))
    assert network.rows[0] == 10 and set(network.rows[1:6]) == {2}, "it is tried both ways"


def test_where_a_batch_has_other_bits_each_is_computed_alone() -> None:
    def mixing(x: Tensor, time: Tensor) -> Tensor:
        return x - x.mean() + time.expand(len(x))[:, None, None, None]

    alone, together = {}, {}
    for number in range(3):
        computed(mixing, alone, number)
    Together().run([partial(computed, mixing, together, number) for number in range(3)])
    assert all(torch.equal(together[number], alone[number]) for number in range(3))


def test_some_end_earlier_and_one_that_fails_stops_no_other() -> None:
    results: dict = {}

    def plain(x: Tensor, time: Tensor) -> Tensor:
        return x + time.expand(len(x))[:, None, None, None]

    def failing() -> None:
        shared(plain, torch.zeros(3, 1, 1, 1), torch.tensor(1.0))
        raise KeyError("here")

    works = [partial(computed, plain, results, 0, 1), failing, partial(computed, plain, results, 5, 4)]
    with pytest.raises(KeyError, match="here"):
        Together().run(works)
    assert set(results) == {0, 5}


def test_what_a_network_raises_reaches_each_that_asked() -> None:
    def broken(x: Tensor) -> Tensor:
        raise ValueError("broken")

    caught: list[int] = []

    def work(number: int) -> None:
        with pytest.raises(ValueError, match="broken"):
            shared(broken, torch.zeros(1, 2))
        caught.append(number)

    Together().run([partial(work, number) for number in range(3)])
    assert caught == [0, 1, 2]


def test_a_network_that_nobody_uses_any_more_is_not_kept() -> None:
    network, together, results = Network(), Together(), {}
    works = [partial(computed, network, results, number) for number in range(2)]
    together.run(works)
    gone = weakref.ref(network)
    del network, works
    gc.collect()
    assert gone() is None
