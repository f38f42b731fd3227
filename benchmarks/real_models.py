"""Bases of published shapes with random weights, and diffusers' ControlNet and pipeline for each.

| name | base | ControlNet | parameters, millions |
| --- | --- | --- | --- |
| sd15 | Stable Diffusion 1.5 | its copy | 860 + 361 |
| sdxl | Stable Diffusion XL | its copy | 2567 + 1251 |
| sd3 | Stable Diffusion 3 medium without T5 | six blocks | 2028 + 539 |
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3ControlNetModel,
    SD3Transformer2DModel,
    StableDiffusion3ControlNetPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import maquette as mq
from maquette.backbones.transformers.sd3 import SD3Backbone
from maquette.backbones.unet import UNetBackbone
from maquette.base import Base
from maquette.text.clip import Clip, ClipText, XLText
from maquette.text.sd3 import SD3Text

XL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
XL_UP = {"up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")}
MEDIUM = {
    "sample_size": 128, "in_channels": 16, "out_channels": 16, "attention_head_dim": 64, "num_attention_heads": 24,
    "joint_attention_dim": 4096, "caption_projection_dim": 1536, "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}  # fmt: skip
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20, "num_hidden_layers": 32}
DIFFUSION = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)


@dataclass(frozen=True)
class Model:
    """How a base is made, and diffusers' pipeline from its parts.

    Args:
        make: from a dtype, a base and diffusers' ControlNet for it.
        pipeline: from both, diffusers' pipeline.
        given: how that takes a condition (1, 3, H, W) in [0, 1].
        channels: of the latents.
    """

    make: Callable[[torch.dtype], tuple[Base, nn.Module]]
    pipeline: Callable[[Base, nn.Module], Any]
    given: Callable[[Tensor], dict[str, Tensor]] = lambda condition: {"image": condition}
    sampler: str = "ddim"
    channels: int = 4


def filled(build: Callable[[], nn.Module], dtype: torch.dtype, seed: int) -> Any:
    """A network with random weights, the same in every precision; linear maps keep about the size of their inputs."""
    with torch.device("meta"):
        network = build().to(dtype).eval().requires_grad_(False)
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.named_parameters():
        if value.ndim > 1:
            value.copy_(torch.randn(value.shape, generator=generator).div(value[0].numel() ** 0.5).bfloat16())
        else:
            value.fill_(float(name.endswith("weight")))
    for buffer in network.buffers():
        if buffer.is_floating_point():  # positions of patches, which base and ControlNet have in common
            buffer.copy_(torch.randn(buffer.shape, generator=torch.Generator().manual_seed(0)).bfloat16())
        else:  # places of tokens
            buffer.copy_(torch.arange(buffer.numel()).view_as(buffer))
    return network


def clip(kind: type[nn.Module], sizes: dict[str, int], dtype: torch.dtype, seed: int) -> Clip:
    tokenizer = mq.load_base("diorama").text.text_encoders[0].tokenizer
    config = CLIPTextConfig(**sizes, projection_dim=sizes["hidden_size"])
    return Clip(filled(lambda: kind(config), dtype, seed), tokenizer)


def autoencoder(dtype: torch.dtype, channels: int = 4, **more: Any) -> AutoencoderKL:
    """Certain of its latents, so that a sample of a condition's is their mean."""
    sizes = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": channels}
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    vae = filled(lambda: AutoencoderKL(**sizes, **kinds, **more), dtype, 1)
    moments = vae.quant_conv or vae.encoder.conv_out
    moments.weight[channels:], moments.bias[channels:] = 0, -30
    return vae


def make_sd15(dtype: torch.dtype) -> tuple[Base, nn.Module]:
    unet = filled(lambda: UNet2DConditionModel(sample_size=64, cross_attention_dim=768), dtype, 0)
    net = filled(lambda: ControlNetModel(cross_attention_dim=768), dtype, 3)
    text = ClipText(clip(CLIPTextModel, CLIP_L, dtype, 2))
    return Base("random", UNetBackbone(unet), autoencoder(dtype), text, dict(DIFFUSION.config), 512), net


def make_sdxl(dtype: torch.dtype) -> tuple[Base, nn.Module]:
    unet = filled(lambda: UNet2DConditionModel(sample_size=128, **XL, **XL_UP), dtype, 0)
    net = filled(lambda: ControlNetModel(**XL), dtype, 3)
    clips = clip(CLIPTextModel, CLIP_L, dtype, 2), clip(CLIPTextModelWithProjection, CLIP_G, dtype, 4)
    return Base("random", UNetBackbone(unet), autoencoder(dtype), XLText(*clips), dict(DIFFUSION.config), 1024), net


def make_sd3(dtype: torch.dtype) -> tuple[Base, nn.Module]:
    transformer = filled(lambda: SD3Transformer2DModel(num_layers=24, **MEDIUM), dtype, 0)
    net = filled(lambda: SD3ControlNetModel(num_layers=6, extra_conditioning_channels=0, **MEDIUM), dtype, 3)
    clips = [clip(CLIPTextModelWithProjection, sizes, dtype, 2) for sizes in (CLIP_L, CLIP_G)]
    moments = {"use_quant_conv": False, "use_post_quant_conv": False, "scaling_factor": 1.5305, "shift_factor": 0.0609}
    schedule = {**FlowMatchEulerDiscreteScheduler(shift=3.0).config, "_class_name": "FlowMatchEulerDiscreteScheduler"}
    vae = autoencoder(dtype, channels=16, **moments)
    return Base("random", SD3Backbone(transformer), vae, SD3Text(*clips, 4096, None, 256), schedule, 1024), net


def sd15_pipeline(base: Base, net: nn.Module) -> Any:
    return StableDiffusionControlNetPipeline(
        vae=base.autoencoder, **parts_of_text(base), unet=base.backbone.network, controlnet=net, scheduler=DIFFUSION,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl_pipeline(base: Base, net: nn.Module) -> Any:
    return StableDiffusionXLControlNetPipeline(
        vae=base.autoencoder, **parts_of_text(base), unet=base.backbone.network, controlnet=net, scheduler=DIFFUSION,
        force_zeros_for_empty_prompt=False, add_watermarker=False,
    )  # fmt: skip


def sd3_pipeline(base: Base, net: nn.Module) -> Any:
    return StableDiffusion3ControlNetPipeline(
        vae=base.autoencoder, **parts_of_text(base), text_encoder_3=None, tokenizer_3=None,
        transformer=base.backbone.network, controlnet=net,
        scheduler=FlowMatchEulerDiscreteScheduler.from_config(base.scheduler_config),
    )  # fmt: skip


def parts_of_text(base: Base) -> dict[str, Any]:
    """The text encoders under diffusers' names."""
    parts = {}
    for one, end in zip(base.text.text_encoders, ("", "_2"), strict=False):
        parts |= {f"text_encoder{end}": one.encoder, f"tokenizer{end}": one.tokenizer}
    return parts


MODELS = {
    "sd15": Model(make_sd15, sd15_pipeline),
    "sdxl": Model(make_sdxl, sdxl_pipeline),
    "sd3": Model(make_sd3, sd3_pipeline, lambda condition: {"control_image": 2 * condition - 1}, "euler", 16),
}
