"""Intersection over union of class maps."""

import numpy as np
from numpy.typing import NDArray


def mean_iou(predicted: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    """Mean over the classes present in `truth` (H, W) of the IoU with `predicted`; 1 for equal maps."""
    scores = []
    for value in np.unique(truth):
        expected, actual = truth == value, predicted == value
        scores.append((expected & actual).sum() / (expected | actual).sum())
    return float(np.mean(scores))
