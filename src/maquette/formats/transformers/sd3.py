"""Stable Diffusion 3: its ControlNets' config.json, and networks told by the names and shapes of their tensors.

A folder in diffusers' format says in config.json what a ControlNet takes; a file without one is told by its tensors:

| tensor | says |
| --- | --- |
| pos_embed_input.proj.weight, controlnet_blocks.0.weight | a ControlNet of this family |
| transformer_blocks.NUMBER | how many blocks it has |
| context_embedder.weight | its blocks read the prompt; SD 3.5 large's own do not |
| pos_embed_input.proj.weight, of more channels than pos_embed.proj.weight | it paints in |
| pos_embed.proj.weight | it embeds latents itself; otherwise its base's embedding serves |
| transformer_blocks.0.attn.qkv.weight | a ControlNet under Stability AI's names (`formats.transformers.sd3_names`) |
| joint_blocks.0.x_block.attn.qkv.weight | a base under these names |
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maquette.errors import MaquetteError
from maquette.formats.topology import count, shape_of
from maquette.formats.transformers.fitting import check_fit
from maquette.formats.transformers.sd3_names import diffusers_names, is_original, is_original_control
from maquette.foundation.weights import Shape, Weights

CONTROLNET, TRANSFORMER = "SD3ControlNetModel", "SD3Transformer2DModel"
NAME = "Stable Diffusion 3"
CONDITION, FIRST_OUTPUT = "pos_embed_input.proj.weight", "controlnet_blocks.0.weight"
NOT_COPIED = ("controlnet_blocks.", "pos_embed_input.")  # prefixes of weights that only a ControlNet has
_PATCHES, _JOINT = "pos_embed.proj.weight", "transformer_blocks.0.attn.add_k_proj.weight"
_CONTEXT, _POOLED = "context_embedder.weight", "time_text_embed.text_embedder.linear_1.weight"
HEAD_WIDTH, SAMPLE_SIZE = 64, 128  # of all that are published: of a head, and a side of the latents of training

Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Design:
    """What a ControlNet takes, as its config.json says; widths are its base's."""

    blocks: int
    text: bool = True  # whether its blocks read the prompt
    embeds: bool = True  # whether it embeds latents itself; otherwise its base's embedding serves
    zero_pooled: bool = False  # whether zeros replace the pooled text, and the condition's latents are not shifted
    paints: bool = False  # whether it takes a mask beside the condition's latents, which are shifted then

    @staticmethod
    def read(config: Mapping[str, Any] | None, blocks: int) -> "Design":
        """From a ControlNet's config.json, with diffusers' defaults; a new one of so many `blocks` if it has none.

        Raises `MaquetteError` for a number of blocks that is none, and for further channels that are no mask.
        """
        if not config:
            return Design(blocks)
        extra = config.get("extra_conditioning_channels") or 0
        if extra not in (0, 1):
            raise MaquetteError(
                "A ControlNet for Stable Diffusion 3 takes its condition alone, or with a mask of 1 channel to paint "
                f"in (extra_conditioning_channels), not {extra!r}; give one of these."
            )
        layers = config.get("num_layers", blocks)
        if not isinstance(layers, int) or isinstance(layers, bool) or layers < 1:
            raise MaquetteError(f"A ControlNet has 1 or more blocks (num_layers), not {layers!r}; fetch it anew.")
        published = config.get("_class_name") == CONTROLNET
        return Design(
            layers,
            config.get("joint_attention_dim", 0) is not None,
            bool(config.get("use_pos_embed", True)),
            bool(config.get("force_zeros_for_pooled_projection", published)),
            extra == 1,
        )


def holds_control(names: Mapping[str, object]) -> bool:
    """Whether tensors are those of a ControlNet of this family."""
    return CONDITION in names and FIRST_OUTPUT in names


def holds_transformer(names: Mapping[str, object]) -> bool:
    """Whether tensors are those of a base's network."""
    return _PATCHES in names and _JOINT in names and not holds_control(names)


def holds_original(names: Mapping[str, object]) -> bool:
    """Whether tensors have the names that Stability AI gave them, of a network alone or in a whole base."""
    return is_original(names)


def as_diffusers(weights: Weights) -> Weights:
    """A base's or ControlNet's tensors under diffusers' names, read lazily."""
    return diffusers_names(weights) if is_original(weights) or is_original_control(weights) else weights


def full_config(weights: Weights) -> dict[str, Any]:
    """A ControlNet's config.json from its tensors, under diffusers' names.

    Raises `MaquetteError` for any but 3.5 large's own: the tensors of others do not tell all that other programs need.
    """
    if _CONTEXT in weights or _PATCHES in weights:
        raise MaquetteError(
            f"Not all settings of the ControlNet in {str(weights.source)!r} follow from its tensors; give the folder "
            "that holds its config.json."
        )
    width, channels, patch, _ = shape_of(weights.shapes, CONDITION, NAME, 4)
    return {
        **told_config(weights),
        "sample_size": SAMPLE_SIZE,
        "patch_size": patch,
        "in_channels": channels,
        "out_channels": channels,
        "attention_head_dim": HEAD_WIDTH,
        "num_attention_heads": width // HEAD_WIDTH,
        "pooled_projection_dim": shape_of(weights.shapes, _POOLED, NAME, 2)[1],
        "pos_embed_max_size": None,
        "pos_embed_type": None,
        "qk_norm": None,
    }


def transformer_config(shapes: Shapes) -> dict[str, Any]:
    """A base's config.json from its tensors, under diffusers' names.

    Raises `MaquetteError` if one that tells is missing or of a shape that it cannot have.
    """
    width, channels, patch, _ = shape_of(shapes, _PATCHES, NAME, 4)
    norm = "transformer_blocks.0.attn.norm_q.weight"
    head = shape_of(shapes, norm, NAME, 1)[0] if norm in shapes else HEAD_WIDTH
    dual = {int(found[1]) for name in shapes if (found := re.match(r"transformer_blocks\.(\d+)\.attn2\.", name))}
    side = math.isqrt(shape_of(shapes, "pos_embed.pos_embed", NAME, 3)[1])
    return {
        "sample_size": min(SAMPLE_SIZE, side * patch),
        "patch_size": patch,
        "in_channels": channels,
        "out_channels": shape_of(shapes, "proj_out.weight", NAME, 2)[0] // patch**2,
        "num_layers": blocks(shapes),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shape_of(shapes, _CONTEXT, NAME, 2)[1],
        "caption_projection_dim": width,
        "pooled_projection_dim": shape_of(shapes, _POOLED, NAME, 2)[1],
        "pos_embed_max_size": side,
        "dual_attention_layers": sorted(dual),
        "qk_norm": "rms_norm" if norm in shapes else None,
    }


def told_config(weights: Weights) -> dict[str, Any]:
    """The config.json of a file that has none, as far as tensors tell it; empty if they are no ControlNet.

    Of published ones those that read the prompt have zeros in place of the pooled text, the others do not. Raises
    `MaquetteError` if one that tells is of a shape that it cannot have.
    """
    if not holds_control(weights):
        return {}
    text = _CONTEXT in weights
    return {
        "_class_name": CONTROLNET,
        "num_layers": blocks(weights.shapes),
        "joint_attention_dim": shape_of(weights.shapes, _CONTEXT, NAME, 2)[1] if text else None,
        "use_pos_embed": _PATCHES in weights,
        "force_zeros_for_pooled_projection": text,
        **further_channels(weights.shapes),
    }


def further_channels(shapes: Shapes) -> dict[str, int]:
    """The setting of channels beside a condition's latents, which published configurations leave out; often empty.

    Raises `MaquetteError` for tensors of another number of sides.
    """
    if CONDITION not in shapes or _PATCHES not in shapes:
        return {}
    more = shape_of(shapes, CONDITION, NAME, 4)[1] - shape_of(shapes, _PATCHES, NAME, 4)[1]
    return {"extra_conditioning_channels": more} if more > 0 else {}


def blocks(shapes: Shapes) -> int:
    """How many blocks a transformer or a ControlNet has."""
    return count(shapes, r"transformer_blocks\.(\d+)\.")


def check_control(weights: Weights, base: Mapping[str, Any], paints: bool) -> None:
    """Check that a ControlNet fits a base.

    Args:
        base: the configuration of its network.
        paints: whether it takes a mask.

    Raises `MaquetteError` if the weights are none of this family, or made for a base of other widths.
    """
    patch, width = base["patch_size"], base["num_attention_heads"] * base["attention_head_dim"]
    check_fit(weights, NAME, holds_control(weights), CONDITION, (width, base["in_channels"] + paints, patch, patch))


def summary(shapes: Shapes) -> tuple[str, str]:
    """What a transformer or a ControlNet is, and its blocks, in words."""
    width = shape_of(shapes, CONDITION if holds_control(shapes) else _PATCHES, NAME, 4)[0]
    context = shape_of(shapes, _CONTEXT, NAME, 2) if _CONTEXT in shapes else None
    dual = count(shapes, r"transformer_blocks\.(\d+)\.attn2\.")
    text = (f"text {context[1]} wide" if context else "no text") + ", paints in" * bool(further_channels(shapes))
    return f"Stable Diffusion 3, {text}", f"{blocks(shapes)} × {width}" + f", {dual} with dual attention" * bool(dual)
