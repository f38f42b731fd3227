"""Flux's files under original names, new ControlNets on it, and what is wrong in one sentence."""

import json

import pytest
import torch
from diffusers import FluxControlNetModel, FluxTransformer2DModel
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from safetensors.torch import save_file
from tests.tiny_flux import XLABS, published, tiny_flux, tiny_transformer

import maquette as mq
from maquette.backbones.transformers.flux import FluxBackbone
from maquette.checkpoints.controlnets import read_controlnet
from maquette.checkpoints.convert import convert, transfer
from maquette.checkpoints.info import info
from maquette.checkpoints.save import save_base
from maquette.errors import MaquetteError

pytestmark = pytest.mark.filterwarnings("ignore:.FluxPosEmbed:FutureWarning")  # of diffusers, to itself


def originals(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors under the names of Black Forest Labs and XLabs, from diffusers'; written out block by block."""
    made, state = {}, dict(state)

    def take(new: str, *old: str) -> None:
        for kind in ("weight", "bias"):
            if f"{old[0]}.{kind}" in state:
                made[f"{new}.{kind}"] = torch.cat([state.pop(f"{one}.{kind}") for one in old])

    embedders = {"time_in": "timestep_embedder", "vector_in": "text_embedder", "guidance_in": "guidance_embedder"}
    for new, old in embedders.items():
        for layer, number in (("in_layer", 1), ("out_layer", 2)):
            take(f"{new}.{layer}", f"time_text_embed.{old}.linear_{number}")
    take("img_in", "x_embedder"), take("txt_in", "context_embedder"), take("final_layer.linear", "proj_out")
    take("pos_embed_input", "controlnet_x_embedder")
    for number in range(8):
        layer = {0: "conv_in", 7: "conv_out"}.get(number, f"blocks.{number - 1}")
        take(f"input_hint_block.{2 * number}", f"input_hint_block.{layer}")
    for block in range(8):
        new, old = f"double_blocks.{block}", f"transformer_blocks.{block}"
        for side, suffix, qkv, out, norm in (
            ("img", "", ("to_q", "to_k", "to_v"), "to_out.0", ("norm_q", "norm_k")),
            (
                "txt",
                "_context",
                ("add_q_proj", "add_k_proj", "add_v_proj"),
                "to_add_out",
                ("norm_added_q", "norm_added_k"),
            ),
        ):
            take(f"{new}.{side}_mod.lin", f"{old}.norm1{suffix}.linear")
            take(f"{new}.{side}_attn.qkv", *(f"{old}.attn.{one}" for one in qkv))
            take(f"{new}.{side}_attn.proj", f"{old}.attn.{out}")
            (
                take(f"{new}.{side}_mlp.0", f"{old}.ff{suffix}.net.0.proj"),
                take(f"{new}.{side}_mlp.2", f"{old}.ff{suffix}.net.2"),
            )
            for name, theirs in zip(norm, ("query_norm", "key_norm"), strict=True):
                if f"{old}.attn.{name}.weight" in state:
                    made[f"{new}.{side}_attn.norm.{theirs}.scale"] = state.pop(f"{old}.attn.{name}.weight")
        new, old = f"single_blocks.{block}", f"single_transformer_blocks.{block}"
        take(f"{new}.modulation.lin", f"{old}.norm.linear"), take(f"{new}.linear2", f"{old}.proj_out")
        take(f"{new}.linear1", *(f"{old}.attn.{one}" for one in ("to_q", "to_k", "to_v")), f"{old}.proj_mlp")
        for name, theirs in (("norm_q", "query_norm"), ("norm_k", "key_norm")):
            if f"{old}.attn.{name}.weight" in state:
                made[f"{new}.norm.{theirs}.scale"] = state.pop(f"{old}.attn.{name}.weight")
    for kind in ("weight", "bias"):
        if f"norm_out.linear.{kind}" in state:
            scale, shift = state.pop(f"norm_out.linear.{kind}").chunk(2)
            made[f"final_layer.adaLN_modulation.1.{kind}"] = torch.cat([shift, scale])
    made.update({name: state.pop(name) for name in list(state) if name.startswith("controlnet_blocks.")})
    assert not state, list(state)
    return {name: value.contiguous() for name, value in made.items()}


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
