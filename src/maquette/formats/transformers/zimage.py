"""Z-Image: its ControlNets' config.json, and networks told by the names and shapes of their tensors.

| tensor | says |
| --- | --- |
| all_x_embedder.2-1.weight, layers.0.attention.to_q.weight | a base |
| layers.0.attention.qkv.weight | a base under its original names (`formats.transformers.zimage_names`) |
| control_all_x_embedder.2-1.weight | a ControlNet, and how many channels its condition has |
| control_layers.NUMBER | how many blocks it has, spread evenly over the base's where no config.json says otherwise |
| control_noise_refiner.0.before_proj.weight | version 2.1; where all of it is zero, 2.0, which does not use it |
| control_noise_refiner without before_proj | version 1.0 |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from maquette.errors import MaquetteError
from maquette.formats.topology import count, shape_of
from maquette.formats.transformers.fitting import check_fit
from maquette.formats.transformers.zimage_names import diffusers_names, is_original
from maquette.foundation.weights import Shape, Weights

TRANSFORMER, CONTROLNET = "ZImageTransformer2DModel", "ZImageControlNetModel"
NAME = "Z-Image"
PATCH = "2-1"
"""Cells of a patch along a side, and in time, as names of tensors have them."""
CONDITION = f"control_all_x_embedder.{PATCH}.weight"
NOT_COPIED = ("control_",)
"""Prefix of weights that only a ControlNet has, which are all: its blocks have other numbers than the base's."""
_PATCHES, _BLOCK, _TEXT = f"all_x_embedder.{PATCH}.weight", "layers.0.attention.to_q.weight", "cap_embedder.1.weight"
_BASES = (
    "all_x_embedder.", "t_embedder.", "cap_embedder.", "noise_refiner.", "context_refiner.", "x_pad_token",
    "cap_pad_token",
)  # fmt: skip
_LAYER = r"layers\.(\d+)\."
_BEFORE = "control_noise_refiner.0.before_proj.weight"
_FIRST, _REFINER = "control_layers.0.attention.to_q.weight", "control_noise_refiner."

Shapes = Mapping[str, Shape]
Refiner = Literal["control_layers", "control_noise_refiner"]
LAYERS, REFINER_LAYERS, WIDTH, HEAD = 30, 2, 3840, 128
"""Of the published base."""


@dataclass(frozen=True)
class Design:
    """What a ControlNet takes, as its config.json says; widths are its base's."""

    places: tuple[int, ...]  # which of the base's blocks behind the refiner its blocks copy, and add to
    channels: int  # of its condition: an image's latents, or also a mask and the latents of a picture to paint in
    refiner: Refiner | None = None  # the blocks that add to the base's refiner: the same (2.0), or some more (2.1)
    early: int = 0  # outputs that are added to the base's refiner

    @staticmethod
    def read(config: Mapping[str, Any] | None, base: Mapping[str, Any]) -> "Design":
        """From a ControlNet's config.json; a new one, without config.json, is as version 1.0.

        Of that version a control of half the weight has half of the residuals, unlike where its blocks see what it
        added to the refiner.

        Args:
            base: the configuration of the base's network.

        Raises `MaquetteError` for places, channels and a refiner that no ControlNet has.
        """
        config, layers, latents = config or {}, base["n_layers"], base["in_channels"]
        if "control_layers_places" not in config and config.get("_class_name") != CONTROLNET:
            blocks = config.get("num_layers") or max(1, layers // 2)
            if not 1 <= blocks <= layers:
                raise MaquetteError(f"Of this base 1 to {layers} blocks can be copied, not {blocks}.")
            return Design(spread(blocks, layers), latents)
        places: Any = config.get("control_layers_places")
        channels = config.get("control_in_dim")
        if not _are_places(places, layers):
            raise MaquetteError(
                "The blocks of a ControlNet for Z-Image have places in the base (control_layers_places), ascending "
                f"from 0 to at most {layers - 1}, not {places!r}; fetch it anew, or take the base that it is for."
            )
        if channels not in (latents, 2 * latents + 1):
            raise MaquetteError(
                f"A ControlNet for this Z-Image takes a condition of {latents} channels, or of {2 * latents + 1} with "
                f"a mask and a picture to paint in (control_in_dim), not {channels!r}; fetch it anew."
            )
        refiner = config.get("add_control_noise_refiner")
        early = base["n_refiner_layers"] if refiner else 0
        places_there = list(config.get("control_refiner_layers_places") or range(early))
        if refiner not in (None, *get_args(Refiner)) or places_there != list(range(early)) or early > len(places):
            raise MaquetteError(
                "A ControlNet for Z-Image adds to every block of the base's refiner or to none "
                f"(add_control_noise_refiner, control_refiner_layers_places), not as {refiner!r} to {places_there}; "
                "fetch it anew."
            )
        return Design(tuple(places), channels, refiner, early)


def _are_places(places: Any, layers: int) -> bool:
    numbers = isinstance(places, list | tuple) and bool(places) and all(type(place) is int for place in places)
    return numbers and places[0] == 0 and places[-1] < layers and all(a < b for a, b in pairwise(places))


def spread(blocks: int, layers: int) -> tuple[int, ...]:
    """The places of so many blocks on a base of `layers`, as evenly as they go."""
    return tuple(number * layers // blocks for number in range(blocks))


def holds_control(names: Mapping[str, object]) -> bool:
    """Whether tensors are those of a ControlNet of this family."""
    return CONDITION in names and _FIRST in names


def holds_transformer(names: Mapping[str, object]) -> bool:
    """Whether tensors are those of a base's network, under diffusers' names."""
    return _PATCHES in names and _BLOCK in names


def holds_original(names: Mapping[str, object]) -> bool:
    """Whether tensors are those of a base's network under their original names, with a prefix or without."""
    return is_original(names)


def as_diffusers(weights: Weights) -> Weights:
    """A base's or ControlNet's tensors under diffusers' names, read lazily.

    A ControlNet's without those of its base, which diffusers writes along once the ControlNet has been used.
    """
    if holds_control(weights):
        return weights.renamed({name: name for name in weights if not name.startswith(_BASES)})
    return diffusers_names(weights) if is_original(weights) else weights


def told_config(weights: Weights, layers: int) -> dict[str, Any]:
    """The config.json of a file that has none, as far as tensors tell it; empty if they are no ControlNet.

    Args:
        layers: blocks of the base behind its refiner, over which those of the ControlNet are spread evenly.
    """
    if not holds_control(weights):
        return {}
    refiner = None
    if _BEFORE in weights:
        refiner = "control_noise_refiner" if bool(weights[_BEFORE].any()) else "control_layers"
    elif not any(name.startswith(_REFINER) for name in weights):
        refiner = "control_layers"
    return {
        "_class_name": CONTROLNET,
        "control_layers_places": list(spread(blocks(weights.shapes), layers)),
        "control_in_dim": shape_of(weights.shapes, CONDITION, NAME, 2)[1] // 4,
        "add_control_noise_refiner": refiner,
    }


def further_channels(shapes: Shapes) -> dict[str, int]:
    """Empty: configurations say it."""
    return {}


def full_config(weights: Weights) -> dict[str, Any]:
    """The config.json that other programs need of a file that has none.

    Raises `MaquetteError` for one on another base than the published, of which tensors do not tell all.
    """
    width = shape_of(weights.shapes, CONDITION, NAME, 2)[0]
    if width != WIDTH:
        raise MaquetteError(
            f"The ControlNet in {str(weights.source)!r} is {width} wide, and how it sits on a base follows from its "
            f"tensors only on the published one, {WIDTH} wide; give the folder that holds its config.json."
        )
    told = told_config(weights, LAYERS)
    early = count(weights.shapes, r"control_noise_refiner\.(\d+)\.") or REFINER_LAYERS
    return {
        **told, "control_refiner_layers_places": list(range(early)) if told["add_control_noise_refiner"] else [],
        "all_patch_size": [2], "all_f_patch_size": [1], "dim": WIDTH, "n_refiner_layers": early,
        "n_heads": WIDTH // HEAD, "n_kv_heads": WIDTH // HEAD, "norm_eps": 1e-5, "qk_norm": True,
    }  # fmt: skip


def blocks(shapes: Shapes) -> int:
    """How many blocks a ControlNet has, without those of its refiner."""
    return count(shapes, r"control_layers\.(\d+)\.")


def checked_control(weights: Weights, base: Mapping[str, Any], design: Design) -> Weights:
    """A ControlNet's tensors; of version 2.0 without a refiner, which files hold and no program uses.

    Args:
        base: the configuration of its network.

    Raises `MaquetteError` if the weights are none of this family, or made for a base of other widths.
    """
    check_fit(weights, NAME, holds_control(weights), CONDITION, (base["dim"], 4 * design.channels))
    own = as_diffusers(weights)
    if design.refiner != "control_layers":
        return own
    return own.renamed({name: name for name in own if not name.startswith(_REFINER)})


def summary(shapes: Shapes) -> tuple[str, str]:
    """What a transformer or a ControlNet is, and its blocks, in words."""
    if CONDITION in shapes:
        width, channels = shape_of(shapes, CONDITION, NAME, 2)
        plain = _BEFORE not in shapes and any(name.startswith(_REFINER) for name in shapes)
        told = f"Z-Image, condition of {channels // 4} channels" + ", adds to the refiner" * (not plain)
        return told, f"{blocks(shapes)} × {width}"
    width, text = shape_of(shapes, _TEXT, NAME, 2)
    return f"Z-Image, text {text} wide", f"{count(shapes, _LAYER)} × {width}"
