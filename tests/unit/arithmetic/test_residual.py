"""Residual blocks are diffusers', to the last bit."""

from functools import partial

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D

from maquette.arithmetic.fast import fast
from maquette.arithmetic.residual import is_plain, residual


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("shape", "times"),
    [
        ({"in_channels": 32}, 16),
        ({"in_channels": 32, "out_channels": 64}, 16),
        ({"in_channels": 32, "skip_time_act": True}, 16),
        ({"in_channels": 32, "temb_channels": None}, None),
    ],
)
@torch.no_grad()
def test_a_block_is_the_same(shape, times, dtype) -> None:
    block = ResnetBlock2D(**{"temb_channels": 16, **shape}).eval().to(dtype)
    x = torch.randn(2, 32, 6, 4).to(dtype).contiguous(memory_format=torch.channels_last)
    time = None if times is None else torch.randn(2, times).to(dtype)
    before, expected = x.clone(), block(x, time)
    assert is_plain(block)
    assert torch.equal(residual(block, x, time), expected)
    assert torch.equal(x, before)  # only what the block has made itself is written over


@pytest.mark.parametrize(
    "other", [{"up": True}, {"down": True}, {"time_embedding_norm": "scale_shift"}, {"output_scale_factor": 2.0}]
)
@torch.no_grad()
def test_other_blocks_go_the_plain_way(other) -> None:
    block = ResnetBlock2D(in_channels=32, temb_channels=16, **other).eval()
    x, time = torch.randn(2, 32, 6, 4), torch.randn(2, 16)
    expected = block(x, time)
    assert not is_plain(block)
    with fast(block):
        assert torch.allclose(block(x, time), expected, atol=1e-5)


@pytest.mark.parametrize("temb_channels", [16, None])
def test_gradients_are_the_same(temb_channels) -> None:
    block = ResnetBlock2D(in_channels=32, out_channels=64, temb_channels=temb_channels)
    x, time, found = torch.randn(2, 32, 6, 4), torch.randn(2, 16), []
    for forward in (block.forward, partial(residual, block)):
        inputs = x.clone().requires_grad_()
        block.zero_grad()
        forward(inputs, time if temb_channels else None).square().sum().backward()
        found.append([inputs.grad, *(value.grad.clone() for value in block.parameters())])
    assert found[0][0].std() > 0
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))
