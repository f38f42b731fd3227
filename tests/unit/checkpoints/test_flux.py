"""Flux's files under original names, new ControlNets on it, and what is wrong in one sentence."""

import json

import pytest
import torch
from diffusers import FluxControlNetModel, FluxTransformer2DModel
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from safetensors.torch import save_file
from tests.tiny_flux import XLABS, originals, published, tiny_flux, tiny_transformer

import maquette as mq
from maquette.backbones.transformers.flux import FluxBackbone
from maquette.checkpoints.controlnets import read_controlnet
from maquette.checkpoints.convert import convert, transfer
from maquette.checkpoints.info import info
from maquette.checkpoints.save import save_base
from maquette.errors import MaquetteError

pytestmark = pytest.mark.filterwarnings("ignore:.FluxPosEmbed:FutureWarning")  # of diffusers, to itself


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_transformer_under_its_original_names(prefix, tmp_path) -> None:
    base = tiny_flux()
    save_base(base, tmp_path)
    stored = originals(base.backbone.network.state_dict())
    for file in (tmp_path / "transformer").glob("*.safetensors"):
        file.unlink()
    path = tmp_path / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({prefix + name: value for name, value in stored.items()}, path)
    loaded = mq.load_base(tmp_path).backbone.network.state_dict()
    expected = base.backbone.network.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    assert "3 double + 4 single × 32" in info(tmp_path)
    assert "Flux.1, text 40 wide, distilled guidance" in info(path)
    with pytest.raises(MaquetteError, match="holds Flux's transformer alone"):
        mq.load_base(path)


def test_the_original_names_are_those_that_diffusers_reads() -> None:
    """Of the published width, at which alone diffusers reads them, without its other weights."""
    with torch.device("meta"):
        network = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)
        expected = network.state_dict()
        again = convert_flux_transformer_checkpoint_to_diffusers(originals(expected))
    assert {name: value.shape for name, value in again.items()} == {name: v.shape for name, v in expected.items()}


def test_a_net_under_the_names_of_xlabs(tmp_path) -> None:
    """Without its config.json: everything follows from its tensors."""
    base = tiny_flux()
    theirs = published(base.backbone.network, 2, **XLABS)
    save_file(originals(theirs.state_dict()), tmp_path / "net.safetensors")
    net = mq.load_controlnet(tmp_path / "net.safetensors", base)
    mine, stored = net.published(), theirs.state_dict()
    assert mine.keys() == stored.keys()
    assert all(torch.equal(mine[name], stored[name]) for name in stored)
    assert net.control.wiring == ((0, 2), (1,))
    convert(tmp_path / "net.safetensors", tmp_path / "folder", "diffusers")
    again = FluxControlNetModel.from_pretrained(tmp_path / "folder")
    assert all(torch.equal(value, stored[name]) for name, value in again.state_dict().items())
    assert (again.config.attention_head_dim, again.config.num_attention_heads) == (16, 2)
    told = info(tmp_path / "net.safetensors")
    assert "takes pixels" in told
    assert "2 double + 0 single" in told


def test_a_new_net_copies_every_embedder_and_leaves_the_base_as_it_was() -> None:
    base = tiny_flux()
    before = json.dumps(dict(base.backbone.network.config), default=str)
    net, network = mq.ControlNet.attach(base), base.backbone.network.state_dict()
    copied = net.trainable_copy.state_dict()
    for part in ("x_embedder.", "context_embedder.", "time_text_embed.timestep", "time_text_embed.guidance"):
        assert any(name.startswith(part) for name in copied)
    assert all(torch.equal(value, network[name]) for name, value in copied.items())
    assert json.dumps(dict(base.backbone.network.config), default=str) == before


def test_transferred_to_another_base_only_copied_weights_change(tmp_path) -> None:
    old, new = tiny_flux(), tiny_flux(seed=1)
    for name, base in (("old", old), ("new", new)):
        save_base(base, tmp_path / name)
    net = published(old.backbone.network, 2, 1)
    net.save_pretrained(tmp_path / "net")
    transfer(tmp_path / "net", tmp_path / "old", tmp_path / "new", tmp_path / "moved")
    moved, was = mq.load_controlnet(tmp_path / "moved", new).published(), net.state_dict()
    assert torch.equal(moved["controlnet_blocks.0.weight"], was["controlnet_blocks.0.weight"])
    name = "transformer_blocks.0.attn.to_q.weight"
    change = new.backbone.network.state_dict()[name] - old.backbone.network.state_dict()[name]
    assert torch.allclose(moved[name], was[name] + change, atol=1e-5)


def wide_net(folder, network) -> None:
    net = published(network, 1)
    net.controlnet_x_embedder = torch.nn.Linear(24, 32)
    net.save_pretrained(folder)


def test_a_net_that_paints_in_is_told_by_its_tensors(tmp_path) -> None:
    """As published, its config.json says nothing of a mask; what we write does."""
    base = tiny_flux()
    theirs = published(base.backbone.network, 1, paints=True)
    theirs.save_pretrained(tmp_path / "folder")
    save_file(theirs.state_dict(), tmp_path / "net.safetensors")
    for source in ("folder", "net.safetensors"):
        net = mq.load_controlnet(tmp_path / source, base)
        assert net.control.paints == "only"
        assert "paints in" in info(tmp_path / source)
    net.save(tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["extra_condition_channels"] == 4
    again = mq.load_controlnet(tmp_path / "ours", base).published()
    assert all(torch.equal(again[name], value) for name, value in theirs.state_dict().items())


def test_what_does_not_fit_is_said_in_one_sentence(tmp_path) -> None:
    network = tiny_transformer()
    backbone = FluxBackbone(network)
    wide_net(tmp_path / "wide", network)
    with pytest.raises(MaquetteError, match="or its latents with a mask of 4 channels"):
        read_controlnet(tmp_path / "wide", backbone)
    with pytest.raises(MaquetteError, match="holds no ControlNet for Flux"):
        mq.load_controlnet("diorama/canny", tiny_flux())
    published(network, 1).save_pretrained(tmp_path / "net")
    with pytest.raises(MaquetteError, match="is made for Flux, a transformer"):
        mq.load_controlnet(tmp_path / "net", mq.load_base("diorama", device="cpu"))
    with pytest.raises(MaquetteError, match="1 or more blocks"):
        backbone.control({"_class_name": "FluxControlNetModel", "num_layers": 0, "num_single_layers": 0})
    with pytest.raises(MaquetteError, match="one of its tools"):
        FluxBackbone(tiny_transformer(1, 1, in_channels=32, out_channels=16))
    with pytest.raises(MaquetteError, match="multiples of 16 pixels, not 24×16"):
        backbone.prepare(torch.zeros(1, 4, 2, 3), 1, tiny_flux().encode_text(["a"]))
