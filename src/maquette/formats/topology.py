"""A network's configuration, inferred from the shapes of its weights (under diffusers' names).

What shapes cannot tell is assumed as published for Stable Diffusion: 8 heads in 1.x, whose text is 768 wide and whose
attention projects with convolutions; heads of 64 channels in 2.x and XL, whose attention projects with linear layers.
"""

import re
from collections.abc import Mapping
from typing import Any

from maquette.errors import MaquetteError
from maquette.foundation.weights import Shape

HEADS, HEAD_WIDTH, NORM_GROUPS = 8, 64, 32
CLIP_HEAD_WIDTH = 64
TEXT_WIDTHS = {"SD 1.x": 768, "SD 2.x": 1024, "SDXL": 2048}
TIME_IDS = 6  # XL: original height, width, crop top, left, target height, width

Shapes = Mapping[str, Shape]


def shape_of(shapes: Shapes, name: str, kind: str, sides: int | None = None) -> Shape:
    """The shape of a tensor that tells what a network is.

    Args:
        kind: what has such a tensor, for messages.
        sides: how many sides its shape has; None for one or more.

    Raises `MaquetteError` if it is missing, empty, or of another number of sides.
    """
    if name not in shapes:
        raise MaquetteError(f"The weights lack {name!r}: they belong to no network of {kind}.")
    found = shapes[name]
    if not found or 0 in found or sides not in (None, len(found)):
        raise MaquetteError(
            f"The weights have {name!r} in the shape {found}: they belong to no network of {kind}; fetch them anew."
        )
    return found


def _shape(shapes: Shapes, name: str, sides: int | None = None) -> Shape:
    return shape_of(shapes, name, "Stable Diffusion 1.x, 2.x or XL", sides)


def count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers the pattern's group matches."""
    return len({found[1] for name in shapes if (found := re.match(pattern, name))})


def family(shapes: Shapes) -> str:
    """Which of the published topologies a U-Net or a ControlNet has."""
    if "add_embedding.linear_1.weight" in shapes:
        return "SDXL"
    return "SD 2.x" if len(_shape(shapes, "mid_block.attentions.0.proj_in.weight")) == 2 else "SD 1.x"


def slot_channels(shapes: Shapes) -> list[int]:
    """Channels of the ControlNet slots, from the first convolution to the middle block."""
    channels = [_shape(shapes, "conv_in.weight", 4)[0]]
    for level in range(count(shapes, r"down_blocks\.(\d+)\.")):
        width = _shape(shapes, f"down_blocks.{level}.resnets.0.conv1.weight", 4)[0]
        layers = count(shapes, rf"down_blocks\.{level}\.resnets\.(\d+)")
        channels += [width] * (layers + (f"down_blocks.{level}.downsamplers.0.conv.weight" in shapes))
    return [*channels, channels[-1]]


def unet_config(shapes: Shapes, pooled_width: int | None = None, heads: int | None = None) -> dict[str, Any]:
    """The configuration of a `UNet2DConditionModel`, or the shared part of a `ControlNetModel`'s.

    Args:
        pooled_width: for XL, width of the second text encoder's pooled vector.
        heads: of each attention layer, if not as published.
    """
    levels = count(shapes, r"down_blocks\.(\d+)\.")
    widths = [_shape(shapes, f"down_blocks.{level}.resnets.0.conv1.weight", 4)[0] for level in range(levels)]
    depths = [
        count(shapes, rf"down_blocks\.{level}\.attentions\.0\.transformer_blocks\.(\d+)") for level in range(levels)
    ]
    linear = len(_shape(shapes, "mid_block.attentions.0.proj_in.weight")) == 2
    config = {
        "in_channels": _shape(shapes, "conv_in.weight", 4)[1],
        "block_out_channels": widths,
        "layers_per_block": 2,
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "transformer_layers_per_block": [max(depth, 1) for depth in depths],
        "cross_attention_dim": _shape(shapes, "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", 2)[1],
        "attention_head_dim": _heads(widths, linear, heads),
        "use_linear_projection": linear,
    }
    if "add_embedding.linear_1.weight" in shapes:
        width = _shape(shapes, "add_embedding.linear_1.weight", 2)[1]
        id_width = (width - pooled_width) // TIME_IDS if pooled_width else 256
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": id_width,
            "projection_class_embeddings_input_dim": width,
        }
    if "conv_out.weight" in shapes:
        types = ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)]
        config |= {"out_channels": _shape(shapes, "conv_out.weight", 4)[0], "up_block_types": types}
    return config


def _heads(widths: list[int], linear: bool, heads: int | None) -> int | list[int]:
    """The number of heads, which diffusers calls attention_head_dim."""
    if heads is not None:
        return heads
    if not linear:
        return HEADS
    if any(width % HEAD_WIDTH for width in widths):
        raise MaquetteError(
            f"How many heads these weights' attention has cannot be read off their widths {widths}; "
            "give the number (heads=), or a folder in diffusers' format."
        )
    return [width // HEAD_WIDTH for width in widths]


def vae_config(shapes: Shapes) -> dict[str, Any]:
    """The configuration of an `AutoencoderKL`, without the scaling factor, which weights do not contain."""
    levels = count(shapes, r"encoder\.down_blocks\.(\d+)\.")
    return {
        "in_channels": _shape(shapes, "encoder.conv_in.weight", 4)[1],
        "out_channels": _shape(shapes, "decoder.conv_out.weight", 4)[0],
        "block_out_channels": [
            _shape(shapes, f"encoder.down_blocks.{i}.resnets.0.conv1.weight", 4)[0] for i in range(levels)
        ],
        "layers_per_block": count(shapes, r"encoder\.down_blocks\.0\.resnets\.(\d+)"),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "latent_channels": _shape(shapes, "decoder.conv_in.weight", 4)[1],
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
    }


def text_config(shapes: Shapes, openclip: bool) -> dict[str, Any]:
    """The configuration of a `CLIPTextModel`, with the activation of CLIP itself or of OpenCLIP."""
    vocabulary, width = _shape(shapes, "text_model.embeddings.token_embedding.weight", 2)
    config: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": _shape(shapes, "text_model.encoder.layers.0.mlp.fc1.weight", 2)[0],
        "num_hidden_layers": count(shapes, r"text_model\.encoder\.layers\.(\d+)\."),
        "num_attention_heads": max(1, width // CLIP_HEAD_WIDTH),
        "max_position_embeddings": _shape(shapes, "text_model.embeddings.position_embedding.weight", 2)[0],
        "hidden_act": "gelu" if openclip else "quick_gelu",
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }
    if "text_projection.weight" in shapes:
        config["projection_dim"] = _shape(shapes, "text_projection.weight", 2)[0]
    return config


def t5_config(shapes: Shapes) -> dict[str, Any]:
    """The configuration of a `T5EncoderModel` of version 1.1, with gated units."""
    first = "encoder.block.0.layer"
    vocabulary, width = shape_of(shapes, "shared.weight", "T5", 2)
    buckets, heads = shape_of(shapes, f"{first}.0.SelfAttention.relative_attention_bias.weight", "T5", 2)
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": shape_of(shapes, f"{first}.0.SelfAttention.q.weight", "T5", 2)[0] // heads,
        "d_ff": shape_of(shapes, f"{first}.1.DenseReluDense.wi_0.weight", "T5", 2)[0],
        "num_layers": count(shapes, r"encoder\.block\.(\d+)\."),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu",
    }
