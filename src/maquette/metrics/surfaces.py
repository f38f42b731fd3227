"""Depth and normals against the truth."""

import numpy as np
from numpy.typing import NDArray

REACH = 20.0  # m; hills and sky are no depth that an image shows


def depth_accuracy(found: NDArray[np.floating], wanted: NDArray[np.floating], ratio: float = 1.25) -> float:
    """δ₁ of the depth literature: share of pixels (H, W) whose depths are within a factor of `ratio` of each other.

    Pixels farther than `REACH` metres in `wanted` do not count.
    """
    near = wanted < REACH
    factor = np.maximum(found[near] / wanted[near], wanted[near] / found[near])
    return float((factor < ratio).mean()) if near.any() else 1.0


def normal_accuracy(found: NDArray[np.floating], wanted: NDArray[np.floating], degrees: float = 22.5) -> float:
    """Share of the pixels with a surface in `wanted` (H, W, 3; 0 for none) whose normals differ by less than that."""
    surface = np.linalg.norm(wanted, axis=-1) > 0.5
    if not surface.any():
        return 1.0
    cosine = (found[surface] * wanted[surface]).sum(axis=-1)
    length = np.linalg.norm(found[surface], axis=-1) * np.linalg.norm(wanted[surface], axis=-1)
    return float((cosine / np.maximum(length, 1e-6) > np.cos(np.radians(degrees))).mean())
