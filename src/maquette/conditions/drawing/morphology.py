"""Strokes as bytes (H, W), 255 on 0: made thicker and thinner, measured, and rid of specks."""

import cv2
import numpy as np
from numpy.typing import NDArray

Strokes = NDArray[np.uint8]


def dilate(strokes: Strokes, radius: float) -> Strokes:
    """All within so many pixels of a stroke."""
    return np.where(_distances(255 - strokes) <= radius, np.uint8(255), np.uint8(0))


def erode(strokes: Strokes, radius: float) -> Strokes:
    """All of a stroke that is farther than so many pixels from its outside; the image's border is no outside."""
    return np.where(_distances(strokes) > radius, np.uint8(255), np.uint8(0))


def thickness(strokes: Strokes) -> float:
    """Of a stroke, on the average, in pixels; 0 where there is none."""
    inside = _distances(strokes)[strokes > 0]
    if not inside.size:
        return 0.0
    # across an odd width w the distances are 1, 2 ... (w + 1) / 2 ... 2, 1: their mean is (w + 1)² / 4w
    about = 4 * float(inside.mean()) - 2
    return (about + max(0.0, about**2 - 4) ** 0.5) / 2


def remove_small_components(strokes: Strokes, least: int) -> Strokes:
    """Strokes of at least so many pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(strokes, connectivity=8)
    keep = stats[:count, cv2.CC_STAT_AREA] >= least
    keep[0] = False  # the paper
    return (keep[labels] * 255).astype(np.uint8)


def _distances(strokes: Strokes) -> NDArray[np.float32]:
    """To the nearest pixel that is 0, in pixels."""
    return np.asarray(cv2.distanceTransform(strokes, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
