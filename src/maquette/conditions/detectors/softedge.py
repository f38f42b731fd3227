"""Soft edges without a network: the size of colour steps at several scales, relative to their surroundings."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.detectors.hed import quantized
from maquette.conditions.inference import LARGEST, grey_image, resized, resized_back, working_size
from maquette.conditions.spec import DetectorSpec, Options, option, per_image

SCALES = (1.0, 2.0, 4.0)  # times the option sigma
SURROUND = 16.0  # times the option sigma: the Gaussian over an edge's surroundings
MIN_SIGMA = 0.6  # pixels: narrower Gaussians respond to single pixels


@dataclass(frozen=True)
class SoftedgeOptions(Options):
    sigma: float = option(1.5, "Sigma of the finest scale, in pixels at a short side of 512.", 0.1, 20)
    contrast: float = option(10, "Colour step in CIE Lab units that is mid-grey in flat surroundings.", 0.1, 100)
    safe: bool = option(False, "Black, grey and white only, so that the map hides no shading of the image.")


def soft_edges(image: Image.Image, sigma: float = 1.5, contrast: float = 10) -> NDArray[np.float32]:
    """Edge strength of each pixel, (H, W) in [0, 1).

    The gradient of CIE Lab along its steepest direction (Di Zenzo 1986), at three scales, as the height of the step
    that would cause it. Their geometric mean keeps edges thin and texture, present at the finest scale only, faint.
    Then divisive normalisation (Heeger 1992), step² / (step² + contrast² + surround²), weakens edges among other edges.
    Large images are reduced to a short side of 1024 pixels.
    """
    small = resized(image, working_size(image.size, LARGEST, 1)) if min(image.size) > LARGEST else image
    lab = cv2.cvtColor(np.asarray(small, np.float32) / 255, cv2.COLOR_RGB2LAB)
    finest = sigma * min(small.size) / 512
    steps = [_step(lab, max(MIN_SIGMA, finest * scale)) for scale in SCALES]
    step = np.prod(steps, axis=0) ** (1 / len(steps))
    surround = cv2.GaussianBlur(step, (0, 0), max(MIN_SIGMA, finest * SURROUND))
    return np.asarray(resized_back(step**2 / (step**2 + contrast**2 + surround**2), image.size), np.float32)


def _step(lab: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Height (H, W) of the colour step at each pixel of (H, W, 3): a step blurred by σ has slope height / (σ √2π)."""
    smooth = cv2.GaussianBlur(lab, (0, 0), sigma)
    dx, dy = cv2.Sobel(smooth, -1, 1, 0) / 8, cv2.Sobel(smooth, -1, 0, 1) / 8  # per pixel
    xx, yy, xy = (dx * dx).sum(2), (dy * dy).sum(2), (dx * dy).sum(2)
    steepest = (xx + yy + np.sqrt((xx - yy) ** 2 + 4 * xy * xy)) / 2
    return np.asarray(np.sqrt(steepest) * sigma * np.sqrt(2 * np.pi), np.float32)


def softedge(image: Image.Image, sigma: float = 1.5, contrast: float = 10, safe: bool = False) -> Image.Image:
    """Soft edges, white on black.

    Args:
        sigma: of the finest scale, in pixels at a short side of 512.
        contrast: colour step in CIE Lab units that is mid-grey in flat surroundings.
        safe: black, grey and white only.
    """
    soft = soft_edges(image, sigma, contrast)
    return grey_image(quantized(soft) if safe else soft)


SOFTEDGE = DetectorSpec("softedge", "soft edges, white on black", per_image(softedge), SoftedgeOptions)
