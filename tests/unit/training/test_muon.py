"""Muon beside torch's own optimizers, which take matrices alone, and its state."""

import copy
import io

import pytest
import torch
from torch import nn

from maquette.training.muon import Muon, orthogonal


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1)
    )


def _parts(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    parameters = list(network.parameters())
    return [one for one in parameters if one.ndim >= 2], [one for one in parameters if one.ndim < 2]


def _gradients(network: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for one in network.parameters():
        one.grad = torch.randn(one.shape, generator=generator)


def test_matrices_follow_torch_muon_and_others_torch_adamw() -> None:
    ours, theirs = _network(), _network()
    matrices, others = _parts(ours)
    optimizer = Muon(matrices, others, lr=0.02)
    their_matrices, their_others = _parts(theirs)
    flat = [nn.Parameter(one.detach().flatten(1).clone()) for one in their_matrices]
    muon = torch.optim.Muon(flat, lr=0.02, weight_decay=0.0)
    adamw = torch.optim.AdamW(their_others, lr=8e-4, betas=(0.9, 0.99), weight_decay=1e-2)
    for step in range(5):
        _gradients(ours, step)
        _gradients(theirs, step)
        for one, matrix in zip(their_matrices, flat, strict=True):
            assert one.grad is not None
            matrix.grad = one.grad.flatten(1)
        for each in (optimizer, muon, adamw):
            each.step()
    for mine, matrix in zip(matrices, flat, strict=True):  # bf16 products of other shapes round differently
        torch.testing.assert_close(mine.flatten(1), matrix, atol=4e-4, rtol=0)
    for mine, other in zip(others, their_others, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 8, 32), (2, 32, 8), (1, 16, 16)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    made = orthogonal(matrices).float()
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.6 and values.max() < 1.3
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inner = left.mT @ made @ right.mT  # diagonal in the matrix's own singular vectors
    assert (inner - torch.diag_embed(inner.diagonal(dim1=1, dim2=2))).abs().max() < 0.1


def test_a_resumed_training_goes_on_bitwise() -> None:
    straight = _network()
    optimizer = Muon(*_parts(straight), lr=0.02)
    for step in range(3):
        _gradients(straight, step)
        optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    resumed = copy.deepcopy(straight)
    again = Muon(*_parts(resumed), lr=0.5)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    for step in range(3, 6):
        for network, each in ((straight, optimizer), (resumed, again)):
            _gradients(network, step)
            each.step()
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_weight_without_gradient_stays() -> None:
    network = _network()
    before = [one.detach().clone() for one in network.parameters()]
    Muon(*_parts(network)).step()
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), before, strict=True))
