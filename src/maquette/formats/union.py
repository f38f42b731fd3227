"""Union ControlNets of Stable Diffusion XL (xinsir): one network for several kinds of condition, which are named here.

Published files, single or in folders, have diffusers' names; their config.json need not say that they are a union, so
that the tensors decide.
"""

from collections.abc import Mapping
from typing import Any

from maquette.formats.transformers import flux
from maquette.foundation.weights import Weights

CLASS = "ControlNetUnionModel"
HEADS = 8  # of the layer on conditions, where no config.json says it
NOT_COPIED = ("task_embedding", "transformer_layes.", "spatial_ch_projs.", "control_add_embedding.")
"""Prefixes of weights that only a union has."""

TYPES = (
    "openpose/pose",
    "depth",
    "hed/pidi/scribble/ted/softedge",
    "canny/lineart/anime/lineart_anime/mlsd",
    "normal",
    "segmentation",
    "tile",
    "repaint",
)
"""The kinds of condition that published ones tell apart, each with all of its names: the first six, ProMax all."""

_TASKS, _PROJECTION = "task_embedding", "spatial_ch_projs.weight"


def holds_union(weights: Weights) -> bool:
    """Whether tensors are those of a union ControlNet."""
    shapes = weights.shapes
    return len(shapes.get(_TASKS, ())) == 2 and len(shapes.get(_PROJECTION, ())) == 2


def completed(config: Mapping[str, Any], weights: Weights) -> dict[str, Any]:
    """A ControlNet's config.json with what the tensors of a union tell of it; of others as it is."""
    if not holds_union(weights):
        return dict(config)
    kinds, width = weights.shapes[_TASKS]
    layers = {name.split(".")[1] for name in weights if name.startswith("transformer_layes.")}
    return {
        **config,
        "_class_name": CLASS,
        "num_control_type": kinds,
        "num_trans_channel": width,
        "num_trans_head": config.get("num_trans_head", HEADS),
        "num_trans_layer": len(layers),
        "num_proj_channel": weights.shapes[_PROJECTION][0],
    }


def published_types(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The kinds of condition of a published union, by its config.json; numbered ones beyond these. None of others."""
    if config.get("_class_name") == flux.CONTROLNET:
        return flux.modes(config)
    if config.get("_class_name") != CLASS:
        return None
    count = config.get("num_control_type", 6)
    return (*TYPES[:count], *map(str, range(len(TYPES), count)))
