"""What a condition needs wherever its maps are computed or read: in generation, training and annotation.

Maps are computed at the size they are used at: the image is first resized for generation, or cropped for training.
Annotation keeps the size of each image.
"""

from typing import Any

import numpy as np
from PIL import Image

from maquette.conditions.registry import detectors
from maquette.conditions.spec import DetectorSpec


def drawn_by(condition: str, base: str) -> str:
    """The name of the detector for a condition: `base/condition` where the base has one, else `condition`."""
    specific = f"{base}/{condition}"
    return specific if specific in detectors else condition


def is_categorical(condition: str) -> bool:
    """Whether the colours of a condition's maps stand for classes; False where no detector has that name."""
    return condition in detectors and detectors[condition].categorical


def shows_people(condition: str) -> bool:
    """Whether a condition's maps are drawn from people, so that one without any is black."""
    return condition in detectors and detectors[condition].completeness is not None


def resampling(categorical: bool) -> Image.Resampling:
    """How maps are resized: class colours by nearest neighbour, which mixes none; all others by Lanczos."""
    return Image.Resampling.NEAREST if categorical else Image.Resampling.LANCZOS


def resampling_words(categorical: bool) -> str:
    """`resampling` in words, for the metadata of a ControlNet."""
    return "the nearest pixel" if categorical else "Lanczos"


def random_options(spec: DetectorSpec, rng: np.random.Generator) -> dict[str, Any]:
    """Options that randomise a detector's parameters: a seed, where it takes one."""
    return {"seed": random_seed(rng)} if spec.takes_seed else {}


def random_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
