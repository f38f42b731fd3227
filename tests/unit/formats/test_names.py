"""Original names and diffusers' names translate into each other, one to one, as in diffusers itself."""

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel
from diffusers.loaders import single_file_utils as reference
from tests.conftest import tiny_unet
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from maquette.formats import text_names, unet_names, vae_names

FAMILIES = ("sd15", "sd21", "sdxl")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_unet_there_and_back(family: str) -> None:
    unet = tiny_unet(family)
    theirs = unet.state_dict()
    attentive = unet_names.attentive_levels(theirs)
    original = {unet_names.to_original(name, attentive): name for name in theirs}
    assert len(original) == len(theirs)
    assert {name: unet_names.to_diffusers(name) for name in original} == original
    checkpoint = {f"model.diffusion_model.{name}": theirs[own] for name, own in original.items()}
    converted = reference.convert_ldm_unet_checkpoint(checkpoint, dict(unet.config))
    assert converted.keys() == theirs.keys()
    assert all(torch.equal(converted[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("family", ["sd15", "sd21"])
def test_a_controlnet_there_and_back(family: str) -> None:
    net = ControlNetModel.from_unet(tiny_unet(family))
    theirs = net.state_dict()
    original = {unet_names.to_original(name, frozenset()): name for name in theirs}
    assert {name: unet_names.to_diffusers(name) for name in original} == original
    assert {"zero_convs.0.0.weight", "middle_block_out.0.bias", "input_hint_block.14.weight"} <= original.keys()
    checkpoint = {f"control_model.{name}": theirs[own] for name, own in original.items()}
    converted = reference.convert_controlnet_checkpoint(checkpoint, dict(net.config))
    assert converted.keys() == theirs.keys()
    assert all(torch.equal(converted[name], theirs[name]) for name in theirs)


def test_an_autoencoder() -> None:
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=(4, 8, 8, 8),
        norm_num_groups=4,
    )
    theirs = vae.state_dict()
    checkpoint = {f"first_stage_model.{name}": torch.randn(shape) for name, shape in original_vae(theirs).items()}
    converted = reference.convert_ldm_vae_checkpoint(checkpoint, dict(vae.config))
    ours = {}
    for name, value in checkpoint.items():
        own = vae_names.to_diffusers(name.removeprefix("first_stage_model."), levels=4)
        ours[own] = vae_names.shaped(own, value)
    assert ours.keys() == converted.keys() == theirs.keys()
    assert all(torch.equal(ours[name], converted[name]) and ours[name].shape == theirs[name].shape for name in ours)


def original_vae(theirs: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the same autoencoder in the original layout, spelled out level by level."""
    names: dict[str, tuple[int, ...]] = {}
    blocks = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "conv_shortcut"}
    for side, layers in (("encoder", 2), ("decoder", 3)):
        down = side == "encoder"
        levels = [(level, level if down else 3 - level) for level in range(4)]
        homes = {
            f"{side}.{'down' if down else 'up'}.{level}.block.{j}": (
                f"{side}.{'down' if down else 'up'}_blocks.{own}.resnets.{j}"
            )
            for level, own in levels
            for j in range(layers)
        }
        homes |= {f"{side}.mid.block_{n + 1}": f"{side}.mid_block.resnets.{n}" for n in range(2)}
        pairs = {f"{a}.{x}": f"{b}.{y}" for a, b in homes.items() for x, y in blocks.items()}
        for level, own in levels:
            word = ("down", "downsample", "downsamplers") if down else ("up", "upsample", "upsamplers")
            pairs[f"{side}.{word[0]}.{level}.{word[1]}.conv"] = f"{side}.{word[0]}_blocks.{own}.{word[2]}.0.conv"
        attention = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
        pairs |= {f"{side}.mid.attn_1.{a}": f"{side}.mid_block.attentions.0.{b}" for a, b in attention.items()}
        pairs |= {f"{side}.conv_in": f"{side}.conv_in", f"{side}.conv_out": f"{side}.conv_out"}
        pairs[f"{side}.norm_out"] = f"{side}.conv_norm_out"
        for original, own in {**pairs, "quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}.items():
            for kind in ("weight", "bias"):
                if f"{own}.{kind}" in theirs:
                    shape = tuple(theirs[f"{own}.{kind}"].shape)
                    flat = "attn_1." in original and "norm" not in original and kind == "weight"
                    names[f"{original}.{kind}"] = (*shape, 1, 1) if flat else shape
    return names


def test_an_openclip_text_encoder() -> None:
    config = CLIPTextConfig(
        vocab_size=20, hidden_size=12, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=8, projection_dim=10,
    )  # fmt: skip
    model = CLIPTextModelWithProjection(config)
    shapes = {
        "positional_embedding": (8, 12), "token_embedding.weight": (20, 12), "text_projection": (12, 10),
        "ln_final.weight": (12,), "ln_final.bias": (12,), "logit_scale": (),
    }  # fmt: skip
    for layer in range(2):
        for name, shape in {
            "attn.in_proj_weight": (36, 12), "attn.in_proj_bias": (36,),
            "attn.out_proj.weight": (12, 12), "attn.out_proj.bias": (12,),
            "ln_1.weight": (12,), "ln_1.bias": (12,), "ln_2.weight": (12,), "ln_2.bias": (12,),
            "mlp.c_fc.weight": (16, 12), "mlp.c_fc.bias": (16,), "mlp.c_proj.weight": (12, 16),
            "mlp.c_proj.bias": (12,),
        }.items():  # fmt: skip
            shapes[f"transformer.resblocks.{layer}.{name}"] = shape
    checkpoint = {name: torch.randn(shape) for name, shape in shapes.items()}
    prefixed = {f"conditioner.embedders.1.model.{name}": value for name, value in checkpoint.items()}
    converted = reference.convert_open_clip_checkpoint(model, prefixed, prefix="conditioner.embedders.1.model.")
    ours = dict(pair for item in checkpoint.items() for pair in text_names.from_openclip(*item))
    assert ours.keys() == model.state_dict().keys()
    assert ours.keys() == converted.keys()
    assert all(torch.equal(ours[name], converted[name]) for name in ours)
