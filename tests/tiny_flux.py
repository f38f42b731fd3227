"""A tiny Flux on random weights: the transformer, a CLIP, T5 and an autoencoder with a shift."""

from diffusers import FlowMatchEulerDiscreteScheduler, FluxControlNetModel, FluxTransformer2DModel

from tests.tiny_sd3 import WIDTH, randomised

HEADS, POOLED = 2, 16
GUIDED = {"guidance_embeds": True}


def tiny_transformer(doubles: int = 3, singles: int = 4, seed: int = 0, **more) -> FluxTransformer2DModel:
    """Every weight random, also those of norms and modulations."""
    settings = {
        "in_channels": 16, "num_layers": doubles, "num_single_layers": singles, "attention_head_dim": 16,
        "num_attention_heads": HEADS, "joint_attention_dim": WIDTH, "pooled_projection_dim": POOLED,
        "axes_dims_rope": (4, 6, 6), **GUIDED,
    }  # fmt: skip
    return randomised(FluxTransformer2DModel(**{**settings, **more}), seed).eval()


def published(network: FluxTransformer2DModel, doubles: int, singles: int = 0, seed: int = 5, **more):
    """diffusers' ControlNet on a base, every weight random."""
    config = {name: value for name, value in network.config.items() if name not in ("patch_size", "out_channels")}
    config = {**config, "num_layers": doubles, "num_single_layers": singles, **more}
    return randomised(FluxControlNetModel.from_config(config), seed).eval()


SCHEDULE = {
    **FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True, max_shift=1.15, base_shift=0.5).config,
    "_class_name": "FlowMatchEulerDiscreteScheduler",
}
XLABS = {"patch_size": 2, "conditioning_embedding_channels": 4}
