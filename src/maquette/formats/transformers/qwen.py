"""Qwen-Image: its ControlNets' config.json, and networks told by the names and shapes of their tensors.

| tensor | says |
| --- | --- |
| img_in.weight, transformer_blocks.0.img_mlp.net.0.proj.weight | a network of this family |
| controlnet_x_embedder.weight, controlnet_blocks.0.weight | a ControlNet on it |
| controlnet_x_embedder.weight, wider than img_in.weight | it paints in: a mask comes beside the condition's latents |
| controlnet_blocks.0.y_rms.weight | DiffSynth's, which reads the base's tokens at every block: not read |
| control_img_in.weight | VideoX-Fun's, in the manner of VACE: not read |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maquette.errors import MaquetteError
from maquette.formats.topology import count, shape_of
from maquette.formats.transformers.fitting import check_fit
from maquette.foundation.weights import Shape, Weights

TRANSFORMER, CONTROLNET = "QwenImageTransformer2DModel", "QwenImageControlNetModel"
NAME = "Qwen-Image"
CONDITION, FIRST_OUTPUT = "controlnet_x_embedder.weight", "controlnet_blocks.0.weight"
NOT_COPIED = ("controlnet_x_embedder.", "controlnet_blocks.")  # prefixes of weights that only a ControlNet has
AXES = (16, 56, 56)
"""Of the positions in each head of 128, as published: time, row, column."""
_LATENTS, _TEXT = "img_in.weight", "txt_in.weight"
_DOUBLE, _HEAD = "transformer_blocks.0.img_mlp.net.0.proj.weight", "transformer_blocks.0.attn.norm_q.weight"
_PREFIX = "model.diffusion_model."
_OTHERS = {"controlnet_blocks.0.y_rms.weight": "DiffSynth's block-wise", "control_img_in.weight": "VideoX-Fun's"}

Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Design:
    """What a ControlNet takes, as its config.json says; widths are its base's."""

    blocks: int
    paints: bool = False  # whether it takes a mask beside the condition's latents

    @staticmethod
    def read(config: Mapping[str, Any] | None, blocks: int) -> "Design":
        """From a ControlNet's config.json; a new one of so many `blocks` if it has none.

        Raises `MaquetteError` for a number of blocks that is none, and for further channels that are no mask.
        """
        config = config or {}
        layers, extra = config.get("num_layers", blocks), config.get("extra_condition_channels", 0)
        if not isinstance(layers, int) or isinstance(layers, bool) or layers < 1:
            raise MaquetteError(f"A ControlNet has 1 or more blocks (num_layers), not {layers!r}; fetch it anew.")
        if extra not in (0, 4):
            raise MaquetteError(
                f"A ControlNet for Qwen-Image takes its condition alone, or with a mask of 4 channels to paint in "
                f"(extra_condition_channels), not {extra!r}; give one of these."
            )
        return Design(layers, extra == 4)


def holds_control(names: Mapping[str, object]) -> bool:
    """Whether tensors are those of a ControlNet of this family."""
    return CONDITION in names and FIRST_OUTPUT in names and _DOUBLE in names


def holds_transformer(names: Mapping[str, object]) -> bool:
    """Whether tensors are those of a base's network, under diffusers' names."""
    return _LATENTS in names and _DOUBLE in names and CONDITION not in names


def holds_original(names: Mapping[str, object]) -> bool:
    """Whether tensors are those of a base's network as ComfyUI's files name them: with a prefix."""
    return _PREFIX + _LATENTS in names and _PREFIX + _DOUBLE in names


def as_diffusers(weights: Weights) -> Weights:
    """A network's tensors under diffusers' names, read lazily."""
    return weights.below(_PREFIX) if holds_original(weights) else weights


def told_config(weights: Weights) -> dict[str, Any]:
    """The config.json of a file that has none, as far as tensors tell it; empty if they are no ControlNet.

    Raises `MaquetteError` if one that tells is missing or of a shape that it cannot have.
    """
    if not holds_control(weights):
        return {}
    shapes = weights.shapes
    width, head = shape_of(shapes, _LATENTS, NAME, 2), shape_of(shapes, _HEAD, NAME, 1)[0]
    return {
        "_class_name": CONTROLNET,
        "in_channels": width[1],
        "out_channels": width[1] // 4,
        "num_layers": blocks(shapes),
        "attention_head_dim": head,
        "num_attention_heads": width[0] // head,
        "joint_attention_dim": shape_of(shapes, _TEXT, NAME, 2)[1],
        "extra_condition_channels": shape_of(shapes, CONDITION, NAME, 2)[1] - width[1],
    }


def further_channels(shapes: Shapes) -> dict[str, int]:
    """Empty: configurations say it."""
    return {}


def full_config(weights: Weights) -> dict[str, Any]:
    """The config.json that other programs need of a file that has none.

    Raises `MaquetteError` for heads of another width than published, of whose positions tensors tell nothing.
    """
    told = told_config(weights)
    if told["attention_head_dim"] != sum(AXES):
        raise MaquetteError(
            f"How the heads of the ControlNet in {str(weights.source)!r}, {told['attention_head_dim']} wide, tell "
            "positions does not follow from its tensors; give the folder that holds its config.json."
        )
    return {**told, "patch_size": 2, "axes_dims_rope": list(AXES)}


def blocks(shapes: Shapes) -> int:
    """How many blocks a transformer or a ControlNet has."""
    return count(shapes, r"transformer_blocks\.(\d+)\.")


def check_control(weights: Weights, base: Mapping[str, Any], paints: bool) -> None:
    """Check that a ControlNet fits a base.

    Args:
        base: the configuration of its network.
        paints: whether its config.json says that it takes a mask.

    Raises `MaquetteError` if the weights are none of this family, or made for a base of other widths.
    """
    for mark, kind in _OTHERS.items():
        if mark in weights:
            raise MaquetteError(
                f"{str(weights.source)!r} is one of {kind} ControlNets for Qwen-Image, which are not read; give one "
                "in diffusers' format, such as InstantX's."
            )
    width = base["num_attention_heads"] * base["attention_head_dim"]
    check_fit(weights, NAME, holds_control(weights), CONDITION, (width, base["in_channels"] + 4 * paints))


def summary(shapes: Shapes) -> tuple[str, str]:
    """What a transformer or a ControlNet is, and its blocks, in words."""
    width, text = shape_of(shapes, _TEXT, NAME, 2)
    sides = {name: shape_of(shapes, name, NAME, 2)[1] for name in (_LATENTS, CONDITION) if name in shapes}
    paints = sides.get(CONDITION, 0) > sides.get(_LATENTS, 0)
    return f"Qwen-Image, text {text} wide" + ", paints in" * paints, f"{blocks(shapes)} × {width}"
