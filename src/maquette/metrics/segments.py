"""Intersection over union of class maps."""

import numpy as np
from numpy.typing import NDArray


def mean_iou(found: NDArray[np.integer], wanted: NDArray[np.integer]) -> float:
    """Mean over the classes present in `wanted` (H, W) of the IoU with `found`; 1 for equal maps."""
    scores = []
    for value in np.unique(wanted):
        here, there = wanted == value, found == value
        scores.append((here & there).sum() / (here | there).sum())
    return float(np.mean(scores))
