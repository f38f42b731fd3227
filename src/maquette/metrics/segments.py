"""Intersection over union of class maps."""

import numpy as np
from numpy.typing import NDArray


def mean_iou(found: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    """Mean over the classes present in `truth` (H, W) of the IoU with `found`; 1 for equal maps."""
    scores = []
    for value in np.unique(truth):
        expected, detected = truth == value, found == value
        scores.append((expected & detected).sum() / (expected | detected).sum())
    return float(np.mean(scores))
