"""PCK, the percentage of correct keypoints, as a share."""

import numpy as np
from numpy.typing import NDArray


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
