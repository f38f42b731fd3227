"""Edge F1: agreement of two edge maps."""

import cv2
import numpy as np
from numpy.typing import NDArray


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
