"""What a condition needs wherever its maps are computed or read: in generation, training and annotation.

Maps are detected at the size they are used at: the image is framed (resized and cropped), then detected in. Detection
depends on the size: shrinking the maps of a large photograph instead gives other lines, and averaged ones.
"""

from typing import Any

import numpy as np

from maquette.conditions.registry import detectors
from maquette.conditions.spec import DetectorSpec
from maquette.foundation.bundle import world_of
from maquette.foundation.images import MapKind


def drawn_by(condition: str, base: str) -> str:
    """The name of the detector for a condition: `world/condition` where the base's world has one, else `condition`."""
    specific = f"{world_of(base)}/{condition}"
    return specific if specific in detectors else condition


def kind_of(condition: str, categorical: bool = False) -> MapKind:
    """How maps of a condition are brought to another size: as its detector says; smoothly if none has that name.

    Args:
        categorical: whether they are known to be class maps.
    """
    if categorical:
        return "classes"
    return detectors[condition].kind if condition in detectors else "smooth"


def shows_people(condition: str) -> bool:
    """Whether a condition's maps are drawn from people, so that one without any is black."""
    return condition in detectors and detectors[condition].completeness is not None


def resizing_words(kind: MapKind) -> str:
    """How `fit` resizes maps of a kind, in words for the metadata of a ControlNet."""
    words = {"smooth": "Lanczos", "lines": "keeping lines whole, black and white", "classes": "the nearest pixel"}
    return f"scaled to cover the frame, by {words[kind]}, and cut"


def random_options(spec: DetectorSpec, rng: np.random.Generator) -> dict[str, Any]:
    """Options that randomise a detector's parameters: a seed, where it takes one."""
    return {"seed": random_seed(rng)} if spec.takes_seed else {}


def random_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
