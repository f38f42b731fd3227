"""How close two condition maps, or two images, are: one function per kind of map."""

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maquette.errors import MaquetteError


def psnr(result: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB (B,) of images (B, 3, H, W) in [-1, 1]; `result` is clipped to that range."""
    error = ((result.clamp(-1, 1) - target) / 2).square().mean(dim=(1, 2, 3))
    return -10 * error.log10()


def edge_f1(predicted: NDArray[np.bool_], truth: NDArray[np.bool_], tolerance: int = 2) -> float:
    """Harmonic mean of precision and recall of edge pixels (H, W), matched within `tolerance` pixels.

    1 for equal maps and for two empty ones, 0 if nothing matches.
    """
    if not predicted.any() and not truth.any():
        return 1.0
    if not predicted.any() or not truth.any():
        return 0.0
    precision = float(_near(truth, tolerance)[predicted].mean())
    recall = float(_near(predicted, tolerance)[truth].mean())
    return 2 * precision * recall / max(precision + recall, 1e-9)


def _near(edges: NDArray[np.bool_], tolerance: int) -> NDArray[np.bool_]:
    """Pixels (H, W) at most `tolerance` from an edge, in Euclidean distance."""
    distance = cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance <= tolerance)


def mean_iou(predicted: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    """Mean over the classes present in `truth` (H, W) of the IoU with `predicted`; 1 for equal maps."""
    scores = []
    for value in np.unique(truth):
        expected, actual = truth == value, predicted == value
        scores.append((expected & actual).sum() / (expected | actual).sum())
    return float(np.mean(scores))


REACH = 20.0  # m; farther depths (hills, sky) cannot be read off an image


def depth_accuracy(predicted: NDArray[np.floating], truth: NDArray[np.floating], ratio: float = 1.25) -> float:
    """δ₁ of the depth literature: share of pixels (H, W) whose depths are within a factor of `ratio` of each other.

    Depths are metres; pixels farther than `REACH` in `truth` do not count.
    """
    near = truth < REACH
    factor = np.maximum(predicted[near] / truth[near], truth[near] / predicted[near])
    return float((factor < ratio).mean()) if near.any() else 1.0


def normal_accuracy(predicted: NDArray[np.floating], truth: NDArray[np.floating], degrees: float = 22.5) -> float:
    """Share of surface pixels, those where `truth` is not 0, whose normals (H, W, 3) differ by less than `degrees`."""
    surface = np.linalg.norm(truth, axis=-1) > 0.5
    if not surface.any():
        return 1.0
    cosine = (predicted[surface] * truth[surface]).sum(axis=-1)
    length = np.linalg.norm(predicted[surface], axis=-1) * np.linalg.norm(truth[surface], axis=-1)
    return float((cosine / np.maximum(length, 1e-6) > np.cos(np.radians(degrees))).mean())


def pck(heat: NDArray[np.floating], truth: NDArray[np.floating], radius: float = 4, least: float = 0.3) -> float:
    """Share of the visible key points that have a peak of the heat map nearby.

    Args:
        heat: (18, H, W), confidence in [0, 1] of each kind of key point.
        truth: (people, 18, 3): x and y in pixels, the first pixel's centre at 0.5, and 1 where visible.
        radius: largest distance of a peak, in pixels.
        least: lowest height of a peak.

    Returns NaN if no key point is visible.
    """
    hits = [
        _peaks_near(heat[kind], x, y, radius, least)
        for person in truth
        for kind, (x, y, visible) in enumerate(person)
        if visible > 0
    ]
    return float(np.mean(hits)) if hits else float("nan")


def _peaks_near(heat: NDArray[np.floating], x: float, y: float, radius: float, least: float) -> bool:
    """Whether heat (H, W) has a local maximum of at least `least` within `radius` of (x, y)."""
    height, width = heat.shape
    top, left = max(0, int(y - radius)), max(0, int(x - radius))
    near = heat[top : min(height, int(y + radius) + 1), left : min(width, int(x + radius) + 1)]
    rows, columns = np.nonzero(near >= least)
    for row, column in zip(rows + top, columns + left, strict=True):
        around = heat[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        if np.hypot(column + 0.5 - x, row + 0.5 - y) <= radius and heat[row, column] >= around.max():
            return True
    return False


WINDOW = 11  # pixels a side of SSIM's window


def ssim(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Structural similarity of two grey images (H, W) in [0, 1]: 1 for equal ones, about 0 for unrelated ones.

    Wang et al. 2004: a Gaussian window of 11 × 11 with σ = 1.5, K₁ = 0.01, K₂ = 0.03. The mean over all pixels of the
    images mirrored at their borders, as torchmetrics takes it; the original leaves out five pixels at each border.
    Raises `MaquetteError` for images below 11 pixels a side.
    """
    if min(a.shape) < WINDOW:
        size = f"{a.shape[1]}×{a.shape[0]}"
        raise MaquetteError(f"SSIM looks through windows of {WINDOW} pixels a side, and these images are {size}.")
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    mean_a, mean_b, square_a, square_b, product = map(_windowed, (a, b, a * a, b * b, a * b))
    variances = square_a - mean_a**2 + square_b - mean_b**2
    covariance = product - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    return float((luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2)).mean())


def _windowed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means under the window around each place of values (H, W)."""
    return np.asarray(cv2.GaussianBlur(values, (WINDOW, WINDOW), 1.5, borderType=cv2.BORDER_REFLECT_101))
