"""Share of key points found."""

import numpy as np
from numpy.typing import NDArray


def pck(heat: NDArray[np.floating], wanted: NDArray[np.floating], radius: float = 4, least: float = 0.3) -> float:
    """Share of the seen key points that a heat map peaks at.

    Args:
        heat: (18, H, W), 1 where a key point of that kind is certain.
        wanted: (people, 18, 3), x, y and 1 where seen; in pixels, the first one's centre at 0.5.
        radius: how far off, in pixels, a peak still counts.
        least: height of a peak that counts.

    Returns NaN when nothing was to be found.
    """
    hits = [
        _peaks_near(heat[kind], x, y, radius, least)
        for person in wanted
        for kind, (x, y, seen) in enumerate(person)
        if seen > 0
    ]
    return float(np.mean(hits)) if hits else float("nan")


def _peaks_near(heat: NDArray[np.floating], x: float, y: float, radius: float, least: float) -> bool:
    """A local maximum of at least `least` within `radius` of (x, y)."""
    height, width = heat.shape
    top, left = max(0, int(y - radius)), max(0, int(x - radius))
    near = heat[top : min(height, int(y + radius) + 1), left : min(width, int(x + radius) + 1)]
    rows, columns = np.nonzero(near >= least)
    for row, column in zip(rows + top, columns + left, strict=True):
        around = heat[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        if np.hypot(column + 0.5 - x, row + 0.5 - y) <= radius and heat[row, column] >= around.max():
            return True
    return False
