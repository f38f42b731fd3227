"""Accuracy of depth and normals."""

import numpy as np
from numpy.typing import NDArray

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
