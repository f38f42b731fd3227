"""Configurations of networks, held against their weights before a layer of them is built. Does not import torch."""

import math
import re
from collections.abc import Mapping
from typing import Any

from maquette.errors import MaquetteError
from maquette.foundation.reading.rules import Rule, check_values, total

_LAYERS = re.compile(r"(num_)?(\w+_)?(layers|depths?|layers_per_block|num_stages|num_blocks)")
"""Names of settings that multiply layers, in diffusers and transformers."""


def check_network(values: Any, rules: Mapping[str, Rule], tensors: int, source: str) -> dict[str, Any]:
    """The settings of a network, checked.

    Args:
        rules: of its kind.
        tensors: number of its weights: each layer has some, so a configuration of more layers is another network's.
        source: its file, for messages.

    Raises `MaquetteError` for a value out of range, and for more layers than there are weights.
    """
    settings = check_values(values, rules, source)
    for name, value in settings.items():
        if isinstance(value, dict):
            check_network(value, {}, tensors, source)
        elif _LAYERS.fullmatch(name) and not 0 <= (layers := total(value)) <= tensors:
            raise MaquetteError(
                f"{name!r} in {source!r} makes {layers:,.0f} layers, and its weights are {tensors:,} tensors; download "
                "both again."
            )
    repeats = math.prod(max(1.0, total(settings.get(name))) for name in ("layers_per_block", "num_layers"))
    deep = max(1.0, total(settings.get("transformer_layers_per_block")))
    if repeats * deep > tensors:
        raise MaquetteError(
            f"{source!r} describes a network of many more layers than its weights; download both again."
        )
    return settings
