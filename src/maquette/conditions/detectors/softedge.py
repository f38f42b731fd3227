"""Soft edges without a network: how large a step of colour is, seen at several scales and against its surroundings."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.detectors.hed import stepped
from maquette.conditions.inference import LARGEST, back, scaled, shown, working_size
from maquette.conditions.options import Options, option
from maquette.conditions.spec import DetectorSpec, each

SCALES = (1.0, 2.0, 4.0)  # times the option sigma
AROUND = 16.0  # times the option sigma: of the Gaussian that is an edge's surroundings
FINEST = 0.6  # pixels: narrower Gaussians see single pixels


@dataclass(frozen=True)
class SoftedgeOptions(Options):
    sigma: float = option(1.5, "Of the finest scale, in pixels where the short side has 512.", 0.1, 20)
    contrast: float = option(10, "Step of colour in units of CIE Lab that alone in its surroundings is grey.", 0.1, 100)
    safe: bool = option(False, "Black, grey and white only, so that no shading of the image hides in the map.")


def soft_edges(image: Image.Image, sigma: float = 1.5, contrast: float = 10) -> NDArray[np.float32]:
    """How much of an edge each pixel is, (H, W) in [0, 1).

    The gradient of CIE Lab along its steepest direction (Di Zenzo 1986) at three scales, as the height of the step that
    would have it; their geometric mean: what only a fine scale sees (texture) is faint, what all see is thin. Then
    divisive normalisation (Heeger 1992), step² / (step² + contrast² + around²), as edges among edges matter less. Large
    images are seen at a short side of 1024 pixels.
    """
    seen = scaled(image, working_size(image.size, LARGEST, 1)) if min(image.size) > LARGEST else image
    lab = cv2.cvtColor(np.asarray(seen, np.float32) / 255, cv2.COLOR_RGB2LAB)
    finest = sigma * min(seen.size) / 512
    steps = [_step(lab, max(FINEST, finest * times)) for times in SCALES]
    step = np.prod(steps, axis=0) ** (1 / len(steps))
    around = cv2.GaussianBlur(step, (0, 0), max(FINEST, finest * AROUND))
    return np.asarray(back(step**2 / (step**2 + contrast**2 + around**2), image.size), np.float32)


def _step(lab: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Height of the step of colour at each pixel: an ideal one blurred by σ has a slope of height / (σ √2π)."""
    smooth = cv2.GaussianBlur(lab, (0, 0), sigma)
    dx, dy = cv2.Sobel(smooth, -1, 1, 0) / 8, cv2.Sobel(smooth, -1, 0, 1) / 8  # a pixel
    xx, yy, xy = (dx * dx).sum(2), (dy * dy).sum(2), (dx * dy).sum(2)
    steepest = (xx + yy + np.sqrt((xx - yy) ** 2 + 4 * xy * xy)) / 2
    return np.asarray(np.sqrt(steepest) * sigma * np.sqrt(2 * np.pi), np.float32)


def softedge(image: Image.Image, sigma: float = 1.5, contrast: float = 10, safe: bool = False) -> Image.Image:
    """Soft edges, white on black.

    Args:
        sigma: of the finest scale, in pixels where the image's short side has 512.
        contrast: step of colour, in units of CIE Lab, that alone in its surroundings is drawn half white.
        safe: black, half white and white only.
    """
    soft = soft_edges(image, sigma, contrast)
    return shown(stepped(soft) if safe else soft)


SOFTEDGE = DetectorSpec("softedge", "soft edges, white on black", each(softedge), SoftedgeOptions)
