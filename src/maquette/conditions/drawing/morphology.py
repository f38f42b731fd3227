"""Morphology of strokes, bytes (H, W) with 255 on 0: dilation, erosion, thickness, removal of specks."""

import cv2
import numpy as np
from numpy.typing import NDArray

Strokes = NDArray[np.uint8]


def dilate(strokes: Strokes, radius: float) -> Strokes:
    """All pixels within `radius` pixels of a stroke, (H, W)."""
    return np.where(_distances(255 - strokes) <= radius, np.uint8(255), np.uint8(0))


def erode(strokes: Strokes, radius: float) -> Strokes:
    """Stroke pixels farther than `radius` pixels from the background, (H, W); the image border is not background."""
    return np.where(_distances(strokes) > radius, np.uint8(255), np.uint8(0))


def thickness(strokes: Strokes) -> float:
    """Average stroke width of (H, W) in pixels; 0 without strokes."""
    inside = _distances(strokes)[strokes > 0]
    if not inside.size:
        return 0.0
    # across an odd width w the distances are 1, 2 ... (w + 1) / 2 ... 2, 1: their mean is (w + 1)² / 4w
    b = 4 * float(inside.mean()) - 2
    return (b + max(0.0, b**2 - 4) ** 0.5) / 2


def remove_small_components(strokes: Strokes, least: int) -> Strokes:
    """The connected components of (H, W) with at least `least` pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(strokes, connectivity=8)
    keep = stats[:count, cv2.CC_STAT_AREA] >= least
    keep[0] = False  # background
    return (keep[labels] * 255).astype(np.uint8)


def _distances(strokes: Strokes) -> NDArray[np.float32]:
    """Distance of each pixel of (H, W) to the nearest 0, in pixels."""
    return np.asarray(cv2.distanceTransform(strokes, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
