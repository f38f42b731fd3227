"""One step at the real size of Stable Diffusion with random weights, compared with diffusers in the same precision."""

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from maquette.backbones.unet import UNetBackbone
from maquette.checkpoints.controlnets import read_controlnet
from maquette.text.conditioning import Conditioning

SD15 = {"cross_attention_dim": 768}
SD21 = {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
XL = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
FAMILIES = {"sd15": (SD15, 860, 361), "sd21": (SD21, 866, 364), "sdxl": (XL, 2567, 1251)}
"""Configuration, and millions of parameters of U-Net and ControlNet as published."""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_one_step(family: str, dtype: torch.dtype, tmp_path) -> None:
    if family == "sdxl" and dtype == torch.float32:
        pytest.skip("15 GB for the two networks and the copy")
    config, unet_millions, net_millions = FAMILIES[family]
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        unet = UNet2DConditionModel(sample_size=64, **config).eval()
        theirs = ControlNetModel.from_unet(unet).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    for layer in (
        *theirs.controlnet_down_blocks,
        theirs.controlnet_mid_block,
        theirs.controlnet_cond_embedding.conv_out,
    ):
        torch.nn.init.normal_(layer.weight, std=0.02)
    assert round(unet.num_parameters() / 1e6) == unet_millions
    assert round(theirs.num_parameters() / 1e6) == net_millions
    theirs.save_pretrained(tmp_path)
    backbone = UNetBackbone(unet)
    net = read_controlnet(tmp_path, backbone)

    z, condition = torch.randn(1, 4, 32, 32, dtype=dtype), torch.rand(1, 3, 256, 256, dtype=dtype)
    states = torch.randn(1, 77, backbone.text.width, dtype=dtype)
    text, added_cond_kwargs = Conditioning(states), None
    if backbone.text.pooled_width is not None:
        text = Conditioning(
            states,
            pooled=torch.randn(1, 1280, dtype=dtype),
            time_ids=torch.tensor([[256.0, 256, 0, 0, 256, 256]]),
        )
        added_cond_kwargs = {"text_embeds": text.pooled, "time_ids": text.time_ids}
    residuals = net(z, 500, text, net.encode(condition))
    ours = backbone.finish(backbone.prepare(z, 500, text), residuals)
    down, middle = theirs(z, 500, states, condition, added_cond_kwargs=added_cond_kwargs, return_dict=False)
    reference = unet(
        z,
        500,
        states,
        added_cond_kwargs=added_cond_kwargs,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
    ).sample
    for value, expected in zip((*residuals, ours), (*down, middle, reference), strict=True):
        assert expected.abs().max() > 1e-3  # so that this can fail
        assert (value - expected).abs().max() <= 1e-5 * max(1, float(expected.abs().max()))
