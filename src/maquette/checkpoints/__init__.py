"""Loading and saving weights: bundled ones, diffusers folders, published ControlNets in any format.

Names are resolved on first use: finding weights (`names`) does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maquette.checkpoints.bases import load_base
    from maquette.checkpoints.controlnets import load_controlnet
    from maquette.checkpoints.original.stable_diffusion import load_original
    from maquette.checkpoints.tiny_decoder import load_tiny_decoder

_HOMES = {
    "load_base": "bases",
    "load_controlnet": "controlnets",
    "load_original": "original.stable_diffusion",
    "load_tiny_decoder": "tiny_decoder",
}

__all__ = ["load_base", "load_controlnet", "load_original", "load_tiny_decoder"]


def __getattr__(name: str) -> Any:
    """Raises `AttributeError` for an unknown name."""
    if name not in _HOMES:
        raise AttributeError(f"module 'maquette.checkpoints' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"maquette.checkpoints.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
