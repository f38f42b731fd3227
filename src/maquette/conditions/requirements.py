"""What a condition needs wherever maps of it are drawn or read: by generations, trainings and annotations alike.

Maps are drawn at the size at which they are used: of an image that was brought to the generation's size or to a
training's frame before; annotations keep each image's own.
"""

from typing import Any

import numpy as np
from PIL import Image

from maquette.conditions.registry import detectors
from maquette.conditions.spec import DetectorSpec


def drawn_by(condition: str, base: str) -> str:
    """The name of the detector that draws a condition for a base: the base's own where it has one."""
    own = f"{base}/{condition}"
    return own if own in detectors else condition


def is_categorical(condition: str) -> bool:
    """Whether a condition's colours name things, by its detector; of a word that is no detector's, no."""
    return condition in detectors and detectors[condition].categorical


def resampling(categorical: bool) -> Image.Resampling:
    """How maps come to another size: classes by the nearest pixel, which mixes no colours, all others by Lanczos."""
    return Image.Resampling.NEAREST if categorical else Image.Resampling.LANCZOS


def resampling_words(categorical: bool) -> str:
    """The same for the contract of a ControlNet."""
    return "the nearest pixel" if categorical else "Lanczos"


def random_options(spec: DetectorSpec, rng: np.random.Generator) -> dict[str, Any]:
    """Options that draw a detector's parameters at random, for those that can."""
    return {"seed": random_seed(rng)} if spec.takes_seed else {}


def random_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
