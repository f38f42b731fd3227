"""Flux.1: its ControlNets' config.json, and networks told by the names and shapes of their tensors.

| tensor | says |
| --- | --- |
| controlnet_x_embedder.weight, controlnet_blocks.0.weight | a ControlNet of this family, under diffusers' names |
| input_hint_block.conv_in.weight | it takes pixels (XLabs) |
| input_hint_block.0.weight, double_blocks.0... | the same under XLabs' own names (`formats.transformers.flux_names`) |
| controlnet_x_embedder.weight, wider than x_embedder.weight | it paints in: a mask comes beside the latents |
| controlnet_mode_embedder.weight | a union, which is told the kind of its condition |
| time_text_embed.guidance_embedder... | it is given the scale of distilled guidance |
| double_blocks.0.img_attn.qkv.weight, final_layer... | a base under Black Forest Labs' own names |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maquette.errors import MaquetteError
from maquette.formats.topology import count, shape_of
from maquette.formats.transformers.fitting import check_fit
from maquette.formats.transformers.flux_names import diffusers_names, is_original
from maquette.foundation.weights import Shape, Weights

CONTROLNET, TRANSFORMER = "FluxControlNetModel", "FluxTransformer2DModel"
NAME = "Flux"
CONDITION = "controlnet_x_embedder.weight"
NOT_COPIED = (
    "controlnet_x_embedder.", "controlnet_blocks.", "controlnet_single_blocks.", "controlnet_mode_embedder.",
    "input_hint_block.",
)  # fmt: skip
"""Prefixes of weights that only a ControlNet has."""
_SINGLE, _DOUBLE = "single_transformer_blocks.0.proj_mlp.weight", "transformer_blocks.0.attn.add_k_proj.weight"
_EMBEDDER = "x_embedder.weight"  # Qwen-Image calls it img_in
_HINT, _MODES = "input_hint_block.conv_in.weight", "controlnet_mode_embedder.weight"
_GUIDANCE, _ORIGINAL_HINT = "time_text_embed.guidance_embedder.linear_1.weight", "input_hint_block.0.weight"
MODES = ("canny", "tile", "depth", "blur", "pose/openpose", "gray", "low quality")
"""The kinds of condition that published unions tell apart, each with its names; they have tokens for ten."""

Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Design:
    """What a ControlNet takes, as its config.json says; widths are its base's."""

    doubles: int
    singles: int = 0
    guided: bool = True  # whether it is given the scale of distilled guidance
    modes: int = 0  # kinds of condition that it tells apart
    hint: int = 0  # channels of its convolutions on pixels; 0: it takes latents
    paints: bool = False  # whether it takes a mask beside the condition's latents

    @staticmethod
    def read(config: Mapping[str, Any] | None, blocks: int, guided: bool) -> "Design":
        """From a ControlNet's config.json, with diffusers' defaults.

        A new one, without config.json, copies a quarter of the base's double blocks, or so many blocks as `num_layers`
        says, of both kinds, in their order.

        Args:
            blocks: double blocks of the base.
            guided: whether the base is given the scale of distilled guidance.

        Raises `MaquetteError` for numbers of blocks that are none.
        """
        config = config or {}
        if config.get("_class_name") != CONTROLNET and "num_single_layers" not in config:
            asked = config.get("num_layers") or max(1, round(blocks / 4))
            return Design(min(asked, blocks), max(0, asked - blocks), guided)
        counts = (config.get("num_layers", 19), config.get("num_single_layers", 38))
        modes, hint = (config.get(key) or 0 for key in ("num_mode", "conditioning_embedding_channels"))
        extra = config.get("extra_condition_channels") or 0
        numbers = (*counts, modes, hint)
        if not all(type(number) is int and 0 <= number <= 1024 for number in numbers) or not sum(counts):
            raise MaquetteError(
                "A ControlNet for Flux has 1 or more blocks (num_layers, num_single_layers), and whole numbers of "
                f"modes and channels (num_mode, conditioning_embedding_channels), not {numbers}; fetch it anew."
            )
        if extra not in (0, 4) or (extra and hint):
            raise MaquetteError(
                "A ControlNet for Flux takes its condition alone, or its latents with a mask of 4 channels to paint in "
                f"(extra_condition_channels), not {extra!r}; give one of these."
            )
        return Design(*counts, bool(config.get("guidance_embeds", False)), modes, hint, extra == 4)


def modes(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The kinds of condition of a union, by its config.json; numbered ones beyond the published. None of others."""
    number = config.get("num_mode") or 0
    return (*MODES[:number], *map(str, range(len(MODES), number))) if number else None


def holds_control(names: Mapping[str, object]) -> bool:
    """Whether tensors are those of a ControlNet of this family, under diffusers' names or XLabs'."""
    return (CONDITION in names and _EMBEDDER in names) or (_ORIGINAL_HINT in names and is_original(names))


def holds_transformer(names: Mapping[str, object]) -> bool:
    """Whether tensors are those of a base's network, under diffusers' names."""
    return _SINGLE in names and _DOUBLE in names and CONDITION not in names


def holds_original(names: Mapping[str, object]) -> bool:
    """Whether tensors are those of a base's network, under the names that Black Forest Labs gave them."""
    return is_original(names) and _ORIGINAL_HINT not in names


def as_diffusers(weights: Weights) -> Weights:
    """A base's or ControlNet's tensors under diffusers' names, read lazily."""
    return diffusers_names(weights) if is_original(weights) else weights


def told_config(weights: Weights) -> dict[str, Any]:
    """The config.json of a file that has none, as far as tensors tell it; empty if they are no ControlNet.

    Raises `MaquetteError` if one that tells is missing or of a shape that it cannot have.
    """
    if not holds_control(weights):
        return {}
    shapes = as_diffusers(weights).shapes
    width, text = shape_of(shapes, "context_embedder.weight", NAME, 2)
    heads = [shape_of(shapes, name, NAME, 1)[0] for name in shapes if name.endswith("attn.norm_q.weight")]
    head = heads[0] if heads else width
    return {
        "_class_name": CONTROLNET,
        "patch_size": 2 if _HINT in shapes else 1,
        "in_channels": shape_of(shapes, _EMBEDDER, NAME, 2)[1],
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": text,
        "pooled_projection_dim": shape_of(shapes, "time_text_embed.text_embedder.linear_1.weight", NAME, 2)[1],
        "num_layers": count(shapes, r"transformer_blocks\.(\d+)\."),
        "num_single_layers": count(shapes, r"single_transformer_blocks\.(\d+)\."),
        "guidance_embeds": _GUIDANCE in shapes,
        "num_mode": shape_of(shapes, _MODES, NAME, 2)[0] if _MODES in shapes else None,
        "conditioning_embedding_channels": _hint_channels(shapes),
        **further_channels(shapes),
    }


def further_channels(shapes: Shapes) -> dict[str, int]:
    """The setting of channels beside a condition's latents, which published configurations leave out; often empty.

    Raises `MaquetteError` for tensors of another number of sides.
    """
    if CONDITION not in shapes or _EMBEDDER not in shapes:
        return {}
    more = shape_of(shapes, CONDITION, NAME, 2)[1] - shape_of(shapes, _EMBEDDER, NAME, 2)[1]
    return {"extra_condition_channels": more} if more > 0 else {}


def full_config(weights: Weights) -> dict[str, Any]:
    """The config.json that other programs need: tensors tell all of it."""
    return told_config(weights)


def _hint_channels(shapes: Shapes) -> int | None:
    return shape_of(shapes, "input_hint_block.conv_out.weight", NAME, 4)[0] if _HINT in shapes else None


def check_control(weights: Weights, base: Mapping[str, Any], paints: bool) -> None:
    """Check that a ControlNet fits a base.

    Args:
        base: the configuration of its network.
        paints: whether it takes a mask.

    Raises `MaquetteError` if the weights are none of this family, or made for a base of other widths.
    """
    width = base["num_attention_heads"] * base["attention_head_dim"]
    check_fit(weights, NAME, holds_control(weights), CONDITION, (width, base["in_channels"] + 4 * paints))


def summary(shapes: Shapes) -> tuple[str, str]:
    """What a transformer or a ControlNet is, and its blocks, in words; diffusers' names."""
    width, text = shape_of(shapes, "context_embedder.weight", NAME, 2)
    doubles = count(shapes, r"transformer_blocks\.(\d+)\.")
    singles = count(shapes, r"single_transformer_blocks\.(\d+)\.")
    told = [f"text {text} wide"]
    told += ["takes pixels"] if _HINT in shapes else []
    told += [f"{shape_of(shapes, _MODES, NAME, 2)[0]} modes"] if _MODES in shapes else []
    told += ["paints in"] if further_channels(shapes) else []
    told += ["distilled guidance"] if _GUIDANCE in shapes else []
    return f"Flux.1, {', '.join(told)}", f"{doubles} double + {singles} single × {width}"
