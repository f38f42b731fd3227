"""maquette: spatial control for pretrained text-to-image diffusion models.

Names are resolved on first use, so `import maquette` loads neither torch nor diffusers.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maquette import checkpoints, diorama, errors
    from maquette.base import Base
    from maquette.checkpoints import load_base, load_controlnet, load_tiny_decoder
    from maquette.conditions.detect import Detector, detect
    from maquette.conditions.registry import register_detector
    from maquette.controlnet.control import Control
    from maquette.controlnet.maps import to_paint
    from maquette.controlnet.network import ControlNet
    from maquette.controlnet.zero import ControlledBlock
    from maquette.metrics.registry import register_metric
    from maquette.sampling.generate import generate
    from maquette.sampling.metadata import save
    from maquette.training.config import TrainingConfig
    from maquette.training.loop import train

__version__ = "0.2.0"

_HOMES = {
    "Base": "maquette.base",
    "Control": "maquette.controlnet.control",
    "ControlNet": "maquette.controlnet.network",
    "ControlledBlock": "maquette.controlnet.zero",
    "TrainingConfig": "maquette.training.config",
    "Detector": "maquette.conditions.detect",
    "detect": "maquette.conditions.detect",
    "register_detector": "maquette.conditions.registry",
    "register_metric": "maquette.metrics.registry",
    "generate": "maquette.sampling.generate",
    "to_paint": "maquette.controlnet.maps",
    "save": "maquette.sampling.metadata",
    "load_base": "maquette.checkpoints",
    "load_controlnet": "maquette.checkpoints",
    "load_tiny_decoder": "maquette.checkpoints",
    "train": "maquette.training.loop",
}
_MODULES = ("checkpoints", "diorama", "errors")

__all__ = [
    "Base",
    "Control",
    "ControlNet",
    "ControlledBlock",
    "Detector",
    "TrainingConfig",
    "checkpoints",
    "detect",
    "diorama",
    "errors",
    "generate",
    "load_base",
    "load_controlnet",
    "load_tiny_decoder",
    "register_detector",
    "register_metric",
    "save",
    "to_paint",
    "train",
]


def __getattr__(name: str) -> Any:
    """Raises `AttributeError` for an unknown name."""
    if name in _MODULES:
        return importlib.import_module(f"maquette.{name}")
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'maquette' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_MODULES])
