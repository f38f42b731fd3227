"""How well an image follows a condition: detect the condition again and compare, one score in [0, 1] a condition.

`wanted` is the truth of the scene that the condition was made of, so that scores are exact: the map itself for
edges and scribbles, class numbers, metres, unit normals, key points.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.detectors.canny import DIORAMA, canny
from maquette.conditions.detectors.scribble import scribble
from maquette.conditions.networks.perception import Perceived, PerceptionModel
from maquette.metrics.edges import edge_f1
from maquette.metrics.keypoints import pck
from maquette.metrics.segments import mean_iou
from maquette.metrics.surfaces import depth_accuracy, normal_accuracy

NAMES = {
    "canny": "edge F1",
    "depth": "depth δ₁",
    "normal": "normals within 22.5°",
    "pose": "key points found",
    "scribble": "stroke F1",
    "segmentation": "mean IoU",
}
"""What the score of each condition is called."""


def _strokes(image: Image.Image) -> NDArray[np.bool_]:
    return np.asarray(image.convert("L")) > 127


_BY_DRAWING: dict[str, Callable[[Image.Image], Image.Image]] = {
    "canny": lambda image: canny(image, **DIORAMA),
    "scribble": scribble,
}
_BY_SIGHT: dict[str, Callable[[Perceived, int, Any], float]] = {
    "depth": lambda seen, row, wanted: depth_accuracy(seen.depth[row], wanted),
    "normal": lambda seen, row, wanted: normal_accuracy(seen.normals[row], wanted),
    "pose": lambda seen, row, wanted: pck(seen.keypoints[row], wanted),
    "segmentation": lambda seen, row, wanted: mean_iou(seen.classes[row], wanted),
}


def needs_eye(condition: str) -> bool:
    """Whether it is the network that looks which scores a condition."""
    return condition in _BY_SIGHT


def fidelity(
    condition: str, images: Sequence[Image.Image], wanted: Sequence[Any], eye: PerceptionModel | None = None
) -> list[float]:
    """The score of each image; NaN where a scene has nothing to be found (no person, for poses).

    Args:
        condition: a key of `NAMES`.
        wanted: for each image the condition map (canny, scribble), or depth (H, W) m, normals (H, W, 3),
            classes (H, W), key points (people, 18, 3).
        eye: the network that looks, the shipped one without.
    """
    if condition in _BY_DRAWING:
        again = _BY_DRAWING[condition]
        return [edge_f1(_strokes(again(one)), _strokes(true)) for one, true in zip(images, wanted, strict=True)]
    eye = eye or PerceptionModel()
    scores = []
    for start in range(0, len(images), 50):
        seen = eye.predict(list(images[start : start + 50]))
        for row, true in enumerate(wanted[start : start + 50]):
            scores.append(_BY_SIGHT[condition](seen, row, true))
    return scores
