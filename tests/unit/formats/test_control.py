"""All published formats of a ControlNet load as the same tensors, and what is written can be read back."""

from pathlib import Path

import pytest
import torch
from tests.conftest import randomise, tiny_base

import maquette as mq
from maquette.errors import MaquetteError
from maquette.formats import control
from maquette.formats.write import write_weights
from maquette.foundation.weights import Weights, open_weights


@pytest.fixture(scope="module")
def base() -> mq.Base:
    return tiny_base("sd15")


@pytest.fixture(scope="module")
def net(base) -> mq.ControlNet:
    """A ControlNet whose copy differs from the base."""
    net = randomise(mq.ControlNet.attach(base))
    with torch.no_grad():
        for parameter in net.trainable_copy.parameters():
            parameter.mul_(1 + 0.1 * torch.randn_like(parameter)).add_(0.01 * torch.randn_like(parameter))
    return net


@pytest.fixture
def folder(net, tmp_path) -> Path:
    net.save(tmp_path / "net")
    return tmp_path / "net" / "diffusion_pytorch_model.safetensors"


def encoder(base: mq.Base) -> Weights:
    return Weights.held(mq.ControlNet.attach(base).trainable_copy.state_dict(), Path("base"))


def same(a: mq.ControlNet, b: mq.ControlNet) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def written(weights: Weights, path: Path) -> Path:
    write_weights(weights, path, weights.metadata)
    return path


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth"])
def test_original(name: str, base, net, folder, tmp_path) -> None:
    weights = open_weights(written(control.as_original(open_weights(folder)), tmp_path / name))
    assert control.recognise(weights) == "original"
    assert same(mq.load_controlnet(tmp_path / name, base), net)


def test_bare(base, net, folder, tmp_path) -> None:
    bare = control.as_original(open_weights(folder)).below(control.PREFIX)
    assert control.recognise(bare) == "bare"
    assert same(mq.load_controlnet(written(bare, tmp_path / "bare.safetensors"), base), net)


def test_whole_model(base, net, folder, tmp_path) -> None:
    """As in v1.0: the ControlNet together with its whole base."""
    tensors = {**control.as_original(open_weights(folder)), "model.diffusion_model.out.2.bias": torch.zeros(4)}
    write_weights(tensors, tmp_path / "whole.pth", {})
    assert same(mq.load_controlnet(tmp_path / "whole.pth", base), net)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_difference_is_undone_bitwise(dtype, base, net, tmp_path) -> None:
    tensors = {name: value.to(dtype) for name, value in open_weights_of(net, tmp_path).items()}
    plain = open_weights(written_dict(tensors, tmp_path / "plain.safetensors"))
    difference = open_weights(written(control.as_difference(plain, encoder(base)), tmp_path / "d.safetensors"))
    assert control.recognise(difference) == "difference"
    changed = difference[
        "control_model.input_blocks.1.0.in_layers.2.weight"
    ]  # ComfyUI adds the base only to such names
    assert not torch.equal(changed, plain["down_blocks.0.resnets.0.conv1.weight"])
    back = control.read_control(difference, encoder(base))
    assert all(torch.equal(back[name], value) and back[name].dtype == dtype for name, value in tensors.items())


def test_difference_follows_the_live_base(base, net, folder, tmp_path) -> None:
    difference = written(control.as_difference(open_weights(folder), encoder(base)), tmp_path / "d.safetensors")
    other = tiny_base("sd15", seed=1)
    moved = mq.load_controlnet(difference, other).trainable_copy.state_dict()
    first, second, own = encoder(base), encoder(other), net.trainable_copy.state_dict()
    for name, value in moved.items():
        assert torch.allclose(value, second[name] + own[name] - first[name], atol=1e-6)


def test_control_lora(base, net, folder, tmp_path) -> None:
    """Full zero convolutions and condition encoder, low-rank updates of copied weights, the rest from the base."""
    bare = control.as_original(open_weights(folder)).below(control.PREFIX)
    own = ("input_hint_block.", "zero_convs.", "middle_block_out.")
    tensors = {name: bare[name] for name in bare if name.startswith(own)}
    ranks = {
        "input_blocks.1.1.transformer_blocks.0.attn1.to_q": (16, 16),
        "input_blocks.1.0.in_layers.2": (16, 16, 3, 3),
    }
    for stem, shape in ranks.items():
        tensors[f"{stem}.up"] = torch.randn(shape[0], 2, *[1] * (len(shape) - 2))
        tensors[f"{stem}.down"] = torch.randn(2, *shape[1:])
    tensors["time_embed.0.bias"] = torch.randn_like(bare["time_embed.0.bias"])
    write_weights({**tensors, "lora_controlnet": torch.tensor([])}, tmp_path / "lora.safetensors", {})
    copy, locked = mq.load_controlnet(tmp_path / "lora.safetensors", base).trainable_copy.state_dict(), encoder(base)
    conv = "down_blocks.0.resnets.0.conv1.weight"
    dense = torch.einsum(
        "orxy,rihw->oihw", *(tensors[f"input_blocks.1.0.in_layers.2.{part}"] for part in ("up", "down"))
    )
    assert torch.allclose(copy[conv], locked[conv] + dense, atol=1e-5)
    to_q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    matrix = (tensors[f"input_blocks.1.1.transformer_blocks.0.attn1.to_q.{part}"] for part in ("up", "down"))
    assert torch.allclose(copy[to_q], locked[to_q] + torch.mm(*matrix), atol=1e-5)
    assert torch.equal(copy["time_embedding.linear_1.bias"], tensors["time_embed.0.bias"])
    assert torch.equal(copy["mid_block.resnets.0.conv1.weight"], locked["mid_block.resnets.0.conv1.weight"])


def test_a_format_relative_to_another_base_is_refused(base, net, folder, tmp_path) -> None:
    """Neither broadcast to something huge, nor a KeyError halfway through a file."""
    plain, xl, other = open_weights(folder), encoder(tiny_base("sdxl")), encoder(tiny_base("sd21"))
    difference = control.as_difference(plain, encoder(base))
    ranks = {f"input_blocks.1.1.proj_in.{part}": torch.ones(2, 2) for part in ("up", "down")}
    lora = Weights.held({"lora_controlnet": torch.ones(0), **ranks}, Path("lora"))
    for wrong in (xl, other):
        for attempt in (
            lambda wrong=wrong: control.as_difference(plain, wrong),
            lambda wrong=wrong: control.read_control(difference, wrong),
            lambda wrong=wrong: control.read_control(lora, wrong),
            lambda wrong=wrong: control.transferred(plain, encoder(base), wrong),
        ):
            with pytest.raises(MaquetteError, match="give the base it was made for"):
                attempt()


def test_what_the_original_layout_cannot_hold(base) -> None:
    for net_config in ({"variant": "lite"}, {"encoder": "paper"}):
        net = mq.ControlNet.attach(base, **net_config)
        state = net.published()
        with pytest.raises(MaquetteError, match="has no name in the original layout"):
            control.as_original(Weights.held(state, Path("net")))


def test_weights_without_a_controlnet(base, tmp_path) -> None:
    write_weights({"a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "other.safetensors", {})
    with pytest.raises(MaquetteError, match=r"holds no ControlNet: its tensors \('a', 'b', ...\)"):
        mq.load_controlnet(tmp_path / "other.safetensors", base)


def test_relative_formats_need_a_base(base, folder) -> None:
    difference = control.as_difference(open_weights(folder), encoder(base))
    with pytest.raises(MaquetteError, match=r"\(difference\) is relative to a base"):
        control.read_control(difference)


def test_a_foreign_tensor_is_named(base, folder, tmp_path) -> None:
    tensors = {**control.as_original(open_weights(folder)), "control_model.whatever": torch.ones(1)}
    write_weights(tensors, tmp_path / "odd.safetensors", {})
    with pytest.raises(MaquetteError, match=r"'whatever' in .*odd\.safetensors' is not part of a ControlNet"):
        mq.load_controlnet(tmp_path / "odd.safetensors", base)


def open_weights_of(net: mq.ControlNet, folder: Path) -> Weights:
    net.save(folder / "saved")
    return open_weights(folder / "saved" / "diffusion_pytorch_model.safetensors")


def written_dict(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    write_weights(tensors, path, {})
    return path
