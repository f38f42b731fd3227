"""A tiny Flux on random weights: the transformer, a CLIP, T5 and an autoencoder with a shift."""

from dataclasses import replace

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxControlNetModel, FluxTransformer2DModel
from transformers import CLIPTextModel

from maquette.backbones.transformers.flux import FluxBackbone
from maquette.base import Base, Defaults
from maquette.text.flux import FluxText
from tests.conftest import tiny_clip
from tests.tiny_sd3 import WIDTH, certain_vae, randomised, tiny_t5

HEADS, POOLED = 2, 16
XLABS = {"patch_size": 2, "conditioning_embedding_channels": 4}
SCHEDULE = {"_class_name": "FlowMatchEulerDiscreteScheduler"} | dict(
    FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15).config
)


def tiny_transformer(doubles: int = 3, singles: int = 4, seed: int = 0, **more) -> FluxTransformer2DModel:
    """Every weight random, also those of norms and modulations."""
    settings = {
        "in_channels": 16, "num_layers": doubles, "num_single_layers": singles, "attention_head_dim": 16,
        "num_attention_heads": HEADS, "joint_attention_dim": WIDTH, "pooled_projection_dim": POOLED,
        "axes_dims_rope": (4, 6, 6), "guidance_embeds": True,
    }  # fmt: skip
    return randomised(FluxTransformer2DModel(**{**settings, **more}), seed).eval()


def tiny_flux(doubles: int = 3, singles: int = 4, seed: int = 0, context: int = 16, **more) -> Base:
    """A whole base."""
    transformer, vae = tiny_transformer(doubles, singles, seed, **more), certain_vae(seed)
    length = 512 if transformer.config.guidance_embeds else 256
    text = FluxText(tiny_clip(CLIPTextModel, POOLED, context), replace(tiny_t5(), length=length), WIDTH)
    return Base("tiny-flux", FluxBackbone(transformer), vae, text, SCHEDULE, 128, Defaults(28, 1.0, "euler"))


def published(
    network: FluxTransformer2DModel, doubles: int, singles: int = 0, seed: int = 5, paints: bool = False, **more
):
    """diffusers' ControlNet on a base, every weight random.

    Args:
        paints: whether a mask comes beside its condition, as in alimama's; diffusers has no setting for it.
    """
    config = {name: value for name, value in network.config.items() if name[0] != "_" and name != "out_channels"}
    config = {**config, "num_layers": doubles, "num_single_layers": singles, **more}
    net = FluxControlNetModel.from_config(config)
    if paints:
        net.controlnet_x_embedder = torch.nn.Linear(config["in_channels"] + 4, network.inner_dim)
    return randomised(net, seed).eval()
