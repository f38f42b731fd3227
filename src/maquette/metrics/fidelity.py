"""How well an image follows a condition: detect the condition again and compare; one score in [0, 1] per image.

`truth` is the ground truth of the scene that the condition was rendered from, so that scores are exact: the map itself
for edges and scribbles, class indices, metres, unit normals, key points.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.detectors.canny import DIORAMA, canny
from maquette.conditions.detectors.scribble import scribble
from maquette.conditions.networks.perception import Perceived, PerceptionModel
from maquette.metrics.maps import depth_accuracy, edge_f1, mean_iou, normal_accuracy, pck

NAMES = {
    "canny": "edge F1",
    "depth": "depth δ₁",
    "normal": "normals within 22.5°",
    "pose": "key points found",
    "scribble": "stroke F1",
    "segmentation": "mean IoU",
}
"""Name of each condition's score."""


def _strokes(image: Image.Image) -> NDArray[np.bool_]:
    """Where a map (H, W) is bright."""
    return np.asarray(image.convert("L")) > 127


_DETECTORS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "canny": lambda image: canny(image, **DIORAMA),
    "scribble": scribble,
}
_PERCEIVED: dict[str, Callable[[Perceived, int, Any], float]] = {
    "depth": lambda perceived, row, truth: depth_accuracy(perceived.depth[row], truth),
    "normal": lambda perceived, row, truth: normal_accuracy(perceived.normals[row], truth),
    "pose": lambda perceived, row, truth: pck(perceived.keypoints[row], truth),
    "segmentation": lambda perceived, row, truth: mean_iou(perceived.classes[row], truth),
}


def needs_eye(condition: str) -> bool:
    """Whether the perception model scores a condition."""
    return condition in _PERCEIVED


def fidelity(
    condition: str, images: Sequence[Image.Image], truth: Sequence[Any], perception: PerceptionModel | None = None
) -> list[float]:
    """The score of each image; NaN where a scene has nothing to detect (no person, for poses).

    Args:
        condition: a key of `NAMES`.
        truth: for each image the condition map (canny, scribble), or depth (H, W) in m, normals (H, W, 3),
            classes (H, W), key points (people, 18, 3).
        perception: the perception model; the bundled one by default.
    """
    if condition in _DETECTORS:
        detect = _DETECTORS[condition]
        pairs = zip(images, truth, strict=True)
        return [edge_f1(_strokes(detect(image)), _strokes(expected)) for image, expected in pairs]
    perception = perception or PerceptionModel()
    scores = []
    for start in range(0, len(images), 50):
        perceived = perception.predict(list(images[start : start + 50]))
        for row, expected in enumerate(truth[start : start + 50]):
            scores.append(_PERCEIVED[condition](perceived, row, expected))
    return scores
