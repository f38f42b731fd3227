"""A fresh ControlNet changes nothing, bitwise; one step gives it an effect; locked weights never change."""

from types import SimpleNamespace

import pytest
import torch
from tests.conftest import randomise, text_for
from torch import nn

from maquette.backbones.unet import UNetBackbone
from maquette.controlnet.network import ControlNet
from maquette.controlnet.zero import ControlledBlock
from maquette.errors import MaquetteError

CONFIGS = [
    {},
    {"encoder": "paper"},
    {"connect": "middle"},
    {"variant": "lite"},
    {"encoder": "paper", "connect": "middle", "variant": "lite"},
]


def predict(backbone, net, latents, text, condition):
    residuals = net(latents, 500, text, net.encode(condition))
    return backbone.finish(backbone.prepare(latents, 500, text), residuals)


@pytest.fixture
def condition() -> torch.Tensor:
    return torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_fresh_is_bitwise_the_base(backbone: UNetBackbone, latents, condition, config) -> None:
    text, z = text_for(backbone), latents(backbone)
    plain = backbone.finish(backbone.prepare(z, 500, text))
    net = ControlNet.attach(SimpleNamespace(backbone=backbone), **config)
    assert torch.equal(predict(backbone, net, z, text, condition), plain)


def test_gaussian_is_not_the_base(backbone: UNetBackbone, latents, condition) -> None:
    text, z = text_for(backbone), latents(backbone)
    net = ControlNet.attach(SimpleNamespace(backbone=backbone), variant="gaussian")
    plain = backbone.finish(backbone.prepare(z, 500, text))
    assert not torch.allclose(predict(backbone, net, z, text, condition), plain, atol=1e-3)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_two_steps_of_training(backbone: UNetBackbone, latents, condition, config) -> None:
    """The first step moves the zero convolutions only, the second reaches the copy; the base has no gradient."""
    text, z = text_for(backbone), latents(backbone)
    net = ControlNet.attach(SimpleNamespace(backbone=backbone), **config)
    locked = {name: value.clone() for name, value in backbone.unet.state_dict().items()}
    plain = backbone.finish(backbone.prepare(z, 500, text))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    (predict(backbone, net, z, text, condition) - torch.ones_like(z)).square().mean().backward()
    reached = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert reached
    assert all(name.startswith("zero_convs.") for name in reached)
    optimizer.step()
    assert not torch.equal(predict(backbone, net, z, text, condition), plain)

    optimizer.zero_grad()
    (predict(backbone, net, z, text, condition) - torch.ones_like(z)).square().mean().backward()
    reached = {
        name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().max() > 0
    }
    assert {"trainable_copy", "zero_convs", "condition_encoder"} <= reached
    assert all(p.grad is None and not p.requires_grad for p in backbone.unet.parameters())
    assert all(torch.equal(locked[name], value) for name, value in backbone.unet.state_dict().items())


def test_a_middle_connection_adds_to_the_middle_only(backbone: UNetBackbone, latents, condition) -> None:
    net = randomise(ControlNet.attach(SimpleNamespace(backbone=backbone), connect="middle"))
    residuals = net(latents(backbone), 500, text_for(backbone), net.encode(condition))
    assert [value is not None for value in residuals] == [False] * (len(backbone.slots) - 1) + [True]


def test_attaching_leaves_the_base_unchanged(backbone: UNetBackbone, latents, condition) -> None:
    """A trained ControlNet leaves the base unchanged when its residuals are not added."""
    text, z = text_for(backbone), latents(backbone)
    before = backbone.finish(backbone.prepare(z, 500, text))
    net = randomise(ControlNet.attach(SimpleNamespace(backbone=backbone)))
    assert not torch.allclose(predict(backbone, net, z, text, condition), before, atol=1e-3)
    assert torch.equal(backbone.finish(backbone.prepare(z, 500, text)), before)


def test_the_same_seed_attaches_the_same(backbone: UNetBackbone) -> None:
    nets = [ControlNet.attach(SimpleNamespace(backbone=backbone), seed=seed) for seed in (5, 5, 6)]
    first, again, other = (net.condition_encoder.conv_in.weight for net in nets)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def residual_block() -> nn.Module:
    from diffusers.models.resnet import ResnetBlock2D

    return ResnetBlock2D(in_channels=8, out_channels=16, temb_channels=None, groups=4)


BLOCKS = {
    "convolution": (lambda: nn.Conv2d(8, 12, 3, padding=1), (2, 8, 10, 10)),
    "convolution, norm, ReLU": (
        lambda: nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        (2, 8, 10, 10),
    ),
    "1-d convolution": (lambda: nn.Conv1d(8, 12, 3, padding=1), (2, 8, 10)),
    "3-d convolution, norm": (
        lambda: nn.Sequential(nn.GroupNorm(2, 8), nn.Conv3d(8, 6, 3, padding=1), nn.BatchNorm3d(6)),
        (2, 8, 4, 5, 6),
    ),
    "transposed 3-d convolution": (lambda: nn.ConvTranspose3d(8, 6, 1), (2, 8, 4, 5, 6)),
    "linear": (lambda: nn.Linear(8, 5), (2, 7, 8)),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), (2, 7, 8)),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_equation_2_on_any_block(name: str) -> None:
    make, shape = BLOCKS[name]
    torch.manual_seed(0)
    block = make()
    x, condition = torch.randn(shape), torch.randn(shape)
    controlled = ControlledBlock(block, condition_channels=8)
    before = block(x)
    statistics = {n: b.clone() for n, b in block.named_buffers()}
    assert torch.equal(controlled(x, condition), before)

    optimizer = torch.optim.SGD(controlled.parameters(), lr=0.5)
    controlled(x, condition).square().mean().backward()
    assert controlled.zero_out.weight.grad.abs().max() > 0
    assert all(p.grad is None or not p.grad.any() for p in controlled.trainable_copy.parameters())
    optimizer.step()
    assert not torch.equal(controlled(x, condition), before)
    optimizer.zero_grad()
    controlled(x, condition).square().mean().backward()
    assert any(p.grad.abs().max() > 0 for p in controlled.trainable_copy.parameters())
    assert controlled.zero_in.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in controlled.block.parameters())
    assert all(torch.equal(value, dict(block.named_buffers())[n]) for n, value in statistics.items())


@pytest.mark.parametrize("batch_first", [True, False])
def test_equation_2_on_attention(batch_first: bool) -> None:
    """Alone it attends to itself; its attention weights stay the locked block's."""
    torch.manual_seed(0)
    block = nn.MultiheadAttention(8, 2, batch_first=batch_first)
    nn.init.normal_(block.in_proj_bias)
    x, condition = torch.randn(4, 7, 8), torch.randn(4, 7, 3)
    controlled = ControlledBlock(block, condition_channels=3)
    before, weights = block(x, x, x)
    assert all(torch.equal(a, b) for a, b in zip(controlled(x, condition), (before, weights), strict=True))

    optimizer = torch.optim.SGD(controlled.parameters(), lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        controlled(x, condition)[0].square().mean().backward()
        optimizer.step()
    output, same = controlled(x, condition)
    assert not torch.equal(output, before)
    assert torch.equal(same, weights)
    changed = x + controlled.zero_in(condition)
    by_hand = block(x, x, x)[0] + controlled.zero_out(controlled.trainable_copy(changed, changed, changed)[0])
    assert torch.equal(output, by_hand)
    assert controlled.zero_in.weight.grad.abs().max() > 0
    assert controlled.trainable_copy.in_proj_weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in controlled.block.parameters())


def test_equation_2_on_attention_to_something_else() -> None:
    """Keys and values, given as they are to both block and copy, by place or by name."""
    block = nn.MultiheadAttention(8, 2, batch_first=True, kdim=5, vdim=5)
    x, condition, other = torch.randn(2, 7, 8), torch.randn(2, 7, 3), torch.randn(2, 4, 5)
    controlled = ControlledBlock(block, condition_channels=3)
    expected = block(x, other, other, need_weights=False)[0]
    nn.init.normal_(controlled.zero_in.weight)  # behind it the last layer is still zero
    assert torch.equal(controlled(x, condition, other, other, need_weights=False)[0], expected)
    assert torch.equal(controlled(x, condition, key=other, value=other, need_weights=False)[0], expected)


def test_equation_2_on_a_resnet_block() -> None:
    """A block with more inputs than x: the width of its output is read off it, or passed."""
    block = residual_block()
    x = torch.randn(2, 8, 10, 10)
    condition = torch.randn(2, 3, 10, 10)
    for out_channels in (16, None):
        controlled = ControlledBlock(block, condition_channels=3, out_channels=out_channels)
        assert torch.equal(controlled(x, condition, None), block(x, None))


def test_equation_2_in_another_precision() -> None:
    block = nn.Conv2d(4, 4, 1).bfloat16()
    x = torch.randn(1, 4, 5, 5).bfloat16()
    assert torch.equal(ControlledBlock(block, condition_channels=4)(x, x), block(x))


def test_a_block_of_unknown_width_asks_for_it() -> None:
    with pytest.raises(MaquetteError, match="give channels="):
        ControlledBlock(nn.ReLU(), condition_channels=4)


def test_training_mode_leaves_the_locked_block_alone() -> None:
    block = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)).eval()
    controlled = ControlledBlock(block, condition_channels=4).train()
    assert controlled.trainable_copy[1].training
    assert not controlled.block[1].training
