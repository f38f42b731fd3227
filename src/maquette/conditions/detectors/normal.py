"""Normal maps: up is green, towards the viewer blue; red is right in exact maps, left in those of photographs."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.detectors.depth import RESOLUTION, WEIGHTS, Disparity
from maquette.conditions.drawing.surfaces import normal_map
from maquette.conditions.inference import back, working_size
from maquette.conditions.options import Options, option
from maquette.conditions.spec import DetectorSpec, Predict

VIEWER = 2 * math.pi  # the published part of a normal towards the viewer, beside 3×3 Sobel gradients of disparity
SPREAD = 1000.0  # what disparities of other networks are spread over: the order of those of MiDaS's hybrid


@dataclass(frozen=True)
class NormalOptions(Options):
    background: float = option(
        0.4, "Share of the disparity, from farthest to nearest, below which all faces the viewer.", 0, 1
    )
    strength: float = option(1.0, "How steep surfaces are drawn: by what gradients are multiplied.", 0, 100)
    red: Literal["left", "right"] = option(
        "left", "Where red surfaces face: left as in the published ControlNets, right as in the diorama's."
    )
    resolution: int | None = RESOLUTION


def normals_from_disparity(disparity: NDArray[np.floating], background: float, strength: float) -> NDArray[np.float32]:
    """Unit normals (H, W, 3) as the paper (v1) has them: axes left, up, towards the viewer.

    Its disparity has neither scale nor offset, so that these are no measured normals: gradients are drawn against a
    constant towards the viewer, as annotator/midas of ControlNet 1.0 does it.

    Args:
        disparity: (H, W), near is large, in the units of MiDaS's hybrid.
        background: share, 0 to 1, of the way from the farthest to the nearest; what is farther faces the viewer.
        strength: by what gradients are multiplied.
    """
    values = np.asarray(disparity, np.float32)
    x, y = (strength * cv2.Sobel(values, cv2.CV_32F, *order, ksize=3) for order in ((1, 0), (0, 1)))
    share = (values - values.min()) / max(float(np.ptp(values)), 1e-9)
    far = share < background
    x[far] = y[far] = 0
    normals = np.stack([x, y, np.full_like(x, VIEWER)], axis=2)
    return np.asarray(normals / np.linalg.norm(normals, axis=2, keepdims=True), np.float32)


def _open(weights: str | Path | None, device: str) -> Predict:
    estimator = Disparity("normal", weights, device)

    def draw(image: Image.Image, seen: NDArray[np.float32], options: NormalOptions) -> Image.Image:
        short = estimator.resolution(options.resolution)
        disparity = back(seen, working_size(image.size, short, 1))  # in the image's shape: slopes are true
        if not estimator.hybrid:
            disparity = disparity * (SPREAD / max(float(np.ptp(disparity)), 1e-9))
        normals = normals_from_disparity(disparity, options.background, options.strength)
        if options.red == "right":
            normals = normals * np.array([-1, 1, 1], np.float32)
        return normal_map(back(normals, image.size))

    def predict(images: list[Image.Image], options: NormalOptions) -> list[Image.Image]:
        found = estimator.of(images, options.resolution)
        return [draw(image, one, options) for image, one in zip(images, found, strict=True)]

    return predict


NORMAL = DetectorSpec(
    "normal", "normals from depth", _open, NormalOptions, library="transformers and OpenCV", weights=WEIGHTS
)
