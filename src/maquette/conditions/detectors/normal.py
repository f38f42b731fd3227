"""Normal maps: green is up, blue faces the viewer; red is right in exact maps, left in maps of photographs."""

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
from maquette.conditions.inference import resized_back, working_size
from maquette.conditions.spec import DetectorSpec, Options, Predict, option

VIEWER = 2 * math.pi  # published z component of a normal, next to 3×3 Sobel gradients of disparity
SPREAD = 1000.0  # range that other networks' disparities are scaled to: the order of MiDaS hybrid's


@dataclass(frozen=True)
class NormalOptions(Options):
    background: float = option(
        0.4, "Fraction of the disparity range, from the farthest, below which surfaces face the viewer.", 0, 1
    )
    strength: float = option(1.0, "Factor on the gradients: how steep surfaces appear.", 0, 100)
    red: Literal["left", "right"] = option(
        "left", "Direction that red stands for: left as in the published ControlNets, right as in the diorama."
    )
    resolution: int | None = RESOLUTION


def normals_from_disparity(disparity: NDArray[np.floating], background: float, strength: float) -> NDArray[np.float32]:
    """Unit normals (H, W, 3) as in the paper (v1), axes left, up, towards the viewer.

    Disparity has no known scale and offset, so these are not metric normals: gradients are set against a constant z
    component, as in annotator/midas of ControlNet 1.0.

    Args:
        disparity: (H, W), near is large, in the units of MiDaS hybrid.
        background: fraction in [0, 1] of the range from farthest to nearest; what is farther faces the viewer.
        strength: factor on the gradients.
    """
    values = np.asarray(disparity, np.float32)
    x, y = (strength * cv2.Sobel(values, cv2.CV_32F, *order, ksize=3) for order in ((1, 0), (0, 1)))
    nearness = (values - values.min()) / max(float(np.ptp(values)), 1e-9)
    far = nearness < background
    x[far] = y[far] = 0
    normals = np.stack([x, y, np.full_like(x, VIEWER)], axis=2)
    return np.asarray(normals / np.linalg.norm(normals, axis=2, keepdims=True), np.float32)


def _load(weights: str | Path | None, device: str) -> Predict:
    estimator = Disparity("normal", weights, device)

    def render(image: Image.Image, output: NDArray[np.float32], options: NormalOptions) -> Image.Image:
        short = estimator.resolution(options.resolution)
        disparity = resized_back(
            output, working_size(image.size, short, 1)
        )  # in the image's aspect ratio, for true slopes
        if not estimator.hybrid:
            disparity = disparity * (SPREAD / max(float(np.ptp(disparity)), 1e-9))
        normals = normals_from_disparity(disparity, options.background, options.strength)
        if options.red == "right":
            normals = normals * np.array([-1, 1, 1], np.float32)
        return normal_map(resized_back(normals, image.size))

    def predict(images: list[Image.Image], options: NormalOptions) -> list[Image.Image]:
        disparities = estimator.predict(images, options.resolution)
        return [render(image, disparity, options) for image, disparity in zip(images, disparities, strict=True)]

    return predict


NORMAL = DetectorSpec(
    "normal", "normals from depth", _load, NormalOptions, library="transformers and OpenCV", weights=WEIGHTS
)
