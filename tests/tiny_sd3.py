"""A tiny Stable Diffusion 3 on random weights: the transformer, two CLIPs, T5 and an autoencoder with a shift."""

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3ControlNetModel, SD3Transformer2DModel
from torch import nn
from transformers import CLIPTextModelWithProjection, T5Config, T5EncoderModel, T5TokenizerFast

from maquette.backbones.transformers.sd3 import SD3Backbone
from maquette.base import Base, Defaults
from maquette.text.sd3 import T5, SD3Text
from tests.conftest import tiny_clip, tiny_vae

WIDTH, PROJECTIONS, SHIFT = 40, (12, 20), 0.3
MEDIUM = {"dual_attention_layers": (0, 1), "qk_norm": "rms_norm"}  # as in 3.5 medium, and in large but for the former


def tiny_transformer(blocks: int = 4, seed: int = 0, **more) -> SD3Transformer2DModel:
    """Every weight random: the modulations that a new one has at zero too."""
    torch.manual_seed(seed)
    settings = {
        "sample_size": 16, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": blocks,
        "attention_head_dim": 8, "num_attention_heads": 2, "joint_attention_dim": WIDTH, "caption_projection_dim": 16,
        "pooled_projection_dim": sum(PROJECTIONS), "pos_embed_max_size": 12,
    }  # fmt: skip
    return randomised(SD3Transformer2DModel(**{**settings, **more}), seed).eval()


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return network


def tiny_t5() -> T5:
    """Its tokenizer knows letters."""
    letters = [(f"{start}{chr(number)}", -1.0) for number in range(97, 123) for start in ("", "\u2581")]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("\u2581", -2.0), *letters]
    tokenizer = T5TokenizerFast(vocab=vocabulary, extra_ids=0, model_max_length=512)
    config = T5Config(vocab_size=64, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2, is_gated_act=True)
    return T5(T5EncoderModel(config).eval(), tokenizer)


def certain_vae(seed: int = 0) -> AutoencoderKL:
    """With a shift, and posteriors that are certain, so that a sample of one is its mean."""
    torch.manual_seed(seed)
    vae, channels = tiny_vae(4), 4
    vae.register_to_config(shift_factor=SHIFT, scaling_factor=1.5)
    vae.quant_conv.weight.data[channels:], vae.quant_conv.bias.data[channels:] = 0, -30
    return vae


def tiny_sd3(t5: bool = True, blank: int = 0, blocks: int = 4, seed: int = 0, context: int = 16, **more) -> Base:
    """A whole base."""
    transformer, vae = tiny_transformer(blocks, seed, **more), certain_vae(seed)
    clips = [
        tiny_clip(CLIPTextModelWithProjection, width, context, projection_dim=projection)
        for width, projection in zip((16, 8), PROJECTIONS, strict=True)
    ]
    text = SD3Text(*clips, WIDTH, tiny_t5() if t5 else None, blank)
    schedule = {**FlowMatchEulerDiscreteScheduler(shift=3.0).config, "_class_name": "FlowMatchEulerDiscreteScheduler"}
    return Base("tiny-sd3", SD3Backbone(transformer), vae, text, schedule, 128, Defaults(28, 7.0, "euler"))


def published(base: Base, blocks: int, seed: int = 5, **more) -> SD3ControlNetModel:
    """diffusers' ControlNet on a base, every weight random."""
    config = {**base.backbone.network.config, "num_layers": blocks, "extra_conditioning_channels": 0, **more}
    dual = [number for number in config["dual_attention_layers"] if number < blocks]
    return randomised(SD3ControlNetModel.from_config({**config, "dual_attention_layers": dual}), seed).eval()
