"""Tiny bases of every family, on random weights, and what tests do to them."""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MAQUETTE_DEVICE", "cpu")  # numbers are compared with those of the CPU, in float32

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from maquette.backbones.unet import UNetBackbone
from maquette.base import Base
from maquette.controlnet.network import ControlNet
from maquette.metrics.registry import metrics
from maquette.text.clip import Clip, ClipText, XLText
from maquette.text.conditioning import Conditioning

FAMILIES = ("sd15", "sd21", "sdxl", "diorama")
"""Topologies under test: 13 slots, 13 with linear projections, 10 with pooled text, 13 at the embedded size."""


@pytest.fixture(autouse=True)
def _metrics_of_one_test(monkeypatch) -> None:
    """What a test or a page of the documentation registers is not there for the next."""
    monkeypatch.setattr(metrics, "_entries", dict(metrics._entries))


def tiny_unet(family: str, seed: int = 0) -> UNet2DConditionModel:
    """A U-Net of a family's topology, as narrow as it goes."""
    torch.manual_seed(seed)
    common = {"sample_size": 16, "norm_num_groups": 8, "layers_per_block": 2}
    if family == "sdxl":
        return UNet2DConditionModel(
            **common,
            block_out_channels=(16, 32, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 3),
            attention_head_dim=(2, 4, 4),
            use_linear_projection=True,
            cross_attention_dim=24,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 20,
        ).eval()
    more = {
        "sd15": {"block_out_channels": (16, 32, 32, 32), "cross_attention_dim": 24, "attention_head_dim": 4},
        "sd21": {
            "block_out_channels": (16, 32, 32, 32),
            "cross_attention_dim": 32,
            "attention_head_dim": (2, 4, 4, 4),
            "use_linear_projection": True,
        },
        "diorama": {
            "in_channels": 8,
            "out_channels": 8,
            "block_out_channels": (24, 32, 32, 16),
            "cross_attention_dim": 24,
            "attention_head_dim": 2,
            "use_linear_projection": True,
        },
    }[family]
    return UNet2DConditionModel(**common, **more).eval()


def text_for(backbone: UNetBackbone, count: int = 2, seed: int = 1) -> Conditioning:
    """Random text of the widths that a backbone wants."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(count, 7, backbone.text.width, generator=generator)
    if backbone.text.pooled_width is None:
        return Conditioning(states)
    pooled = torch.randn(count, backbone.text.pooled_width, generator=generator)
    ids = torch.tensor([[128.0, 128, 0, 0, 128, 128]] * count)
    return Conditioning(states, pooled=pooled, time_ids=ids)


def randomise(net: ControlNet, seed: int = 7) -> ControlNet:
    """Give every zero layer random weights, so that a test of the residuals can fail."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        entries = getattr(net.trainable_copy, "entries", [])  # zero layers that a copy begins with
        for layer in (net.condition_encoder.conv_out, *entries, *net.zero_convs):
            for parameter in layer.parameters():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return net


@pytest.fixture(params=FAMILIES)
def backbone(request: pytest.FixtureRequest) -> UNetBackbone:
    return UNetBackbone(tiny_unet(request.param))


@pytest.fixture
def latents() -> Callable[[UNetBackbone], Tensor]:
    def draw(backbone: UNetBackbone) -> Tensor:
        return torch.randn(2, backbone.latent_channels, 16, 16, generator=torch.Generator().manual_seed(2))

    return draw


def tiny_base(family: str = "sd15", prediction: str = "epsilon", seed: int = 0, context: int = 16) -> Base:
    """A whole base on random weights; its autoencoder has f = 8, its tokenizer knows letters."""
    torch.manual_seed(seed)
    unet = tiny_unet(family, seed)
    vae = tiny_vae(unet.config.in_channels)
    text_encoders = [tiny_clip(CLIPTextModel, 8 if family == "sdxl" else unet.config.cross_attention_dim, context)]
    if family == "sdxl":
        text_encoders.append(tiny_clip(CLIPTextModelWithProjection, 16, context, projection_dim=20))
    schedule = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )
    backbone = UNetBackbone(unet, downscale=8)
    text = XLText(*text_encoders, zero_empty_prompt=True) if family == "sdxl" else ClipText(*text_encoders)
    return Base(f"tiny-{family}", backbone, vae, text, dict(schedule.config), 128)


def tiny_vae(channels: int) -> AutoencoderKL:
    """An autoencoder on random weights, 8 pixels to a latent cell of so many channels."""
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=128,
    ).eval()


def tiny_clip(kind: Any, width: int, context: int, **more: int) -> Clip:
    """A text encoder on random weights; its tokenizer knows letters."""
    letters = [chr(number) for number in range(97, 123)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: n for n, word in enumerate(words)}, merges=[], model_max_length=context)
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
        pad_token_id=len(words) - 1,
        **more,
    )
    return Clip(kind(config).eval(), tokenizer)
