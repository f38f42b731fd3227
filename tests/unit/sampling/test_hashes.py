"""A hash of weights: equal for equal weights, different after any change, and kept meanwhile."""

import copy
import hashlib
import threading

import pytest
import torch
from tests.conftest import randomise, tiny_base
from torch import nn

from maquette.controlnet.network import ControlNet
from maquette.formats import module_hash as hashes
from maquette.formats.module_hash import module_hash
from maquette.sampling.recording import net_hash


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 2))


def in_place(module: nn.Module) -> None:
    with torch.no_grad():
        module[0].weight[1, 1, 1, 1] += 1e-6


def by_an_optimizer(module: nn.Module) -> None:
    module[2].weight.grad = torch.ones_like(module[2].weight)
    torch.optim.AdamW(module.parameters()).step()


def behind_torch(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.data += 1  # not counted, as with an optimizer in a library's own kernels


def replaced(module: nn.Module) -> None:
    module[2].bias = nn.Parameter(module[2].bias + 1)


def to_half(module: nn.Module) -> None:
    module.half()


def a_buffer(module: nn.Module) -> None:
    module[1].running_mean += 1


@pytest.mark.parametrize("change", [in_place, by_an_optimizer, behind_torch, replaced, to_half, a_buffer])
def test_every_change_is_seen(change) -> None:
    module = layers()
    before = module_hash(module)
    assert module_hash(copy.deepcopy(module)) == module_hash(layers()) == before
    change(module)
    assert module_hash(module) != before


def test_a_hash_is_kept(monkeypatch) -> None:
    module, counted = layers(), []
    sha256 = hashlib.sha256
    monkeypatch.setattr(hashes.hashlib, "sha256", lambda data=b"": counted.append(1) or sha256(data))
    assert module_hash(module) == module_hash(module)
    assert len(counted) == len(module.state_dict()) + 1


def test_layout_and_device_memory_do_not_matter() -> None:
    module = layers()
    before = module_hash(module)
    assert module_hash(module.to(memory_format=torch.channels_last)) == before
    assert module_hash(module.to(torch.bfloat16)) != before


def test_what_acts_beside_the_weights_counts() -> None:
    base = tiny_base("diorama", "v_prediction")
    assert base.hash() == tiny_base("diorama", "v_prediction").hash()
    assert base.hash() != tiny_base("diorama", "epsilon").hash()
    assert base.hash() != tiny_base("diorama", "v_prediction", context=32).hash()
    net = randomise(ControlNet.attach(base))
    assert net_hash(net) == net_hash(randomise(ControlNet.attach(base)))
    middle = randomise(ControlNet.attach(base, connect="middle"))
    assert net_hash(net) != net_hash(middle)


def test_where_no_thread_can_be_started_the_hash_is_the_same(monkeypatch) -> None:
    """Limits of the system must not cost a picture that is finished."""
    before = module_hash(layers())

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert module_hash(layers()) == before
