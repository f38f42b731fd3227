"""How well-shaped things are, from the image alone: straight edges of cubes and houses, roundness of balls.

Both scores are shares in [0, 1]. True scenes do not reach 1 (texture, shadows, occlusion), so a generated image's score
is read beside theirs.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

EDGES = (50, 120)  # Canny's thresholds
LEAST_AREA = 80  # pixels of a thing
LEAST_EDGES = 20  # edge pixels on a thing, for its straightness to be judged
SEGMENT = 10.0  # pixels: shorter line segments do not count as straight edges
NEAR = 1.0  # pixels between an edge and the line or circle that explains it
ROUND_WITHIN = 0.05  # of the radius, where that is more than `NEAR`


def things(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """The connected parts of a mask (H, W) that are large enough to be judged, each a mask (H, W)."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    for number in range(1, count):
        if statistics[number, cv2.CC_STAT_AREA] >= LEAST_AREA:
            yield np.asarray(labels == number)


def straightness(image: NDArray[np.uint8], thing: NDArray[np.bool_]) -> float:
    """Share of a thing's Canny edges that lie on line segments (von Gioi et al. 2010, LSD) of some length.

    Args:
        image: (H, W, 3), RGB.
        thing: (H, W), where the thing is; edges up to two pixels outside of it count too.

    Returns NaN where the thing has too few edges.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    around = cv2.dilate(thing.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    edges = (cv2.Canny(grey, *EDGES) > 0) & around
    if edges.sum() < LEAST_EDGES:
        return float("nan")
    drawn = np.full(grey.shape, 255, np.uint8)
    for x0, y0, x1, y1 in _segments(grey):
        if np.hypot(x1 - x0, y1 - y0) >= SEGMENT:
            cv2.line(drawn, (round(x0), round(y0)), (round(x1), round(y1)), 0)
    distance = cv2.distanceTransform(drawn, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((distance[edges] <= NEAR).mean())


def _segments(grey: NDArray[np.uint8]) -> list[list[float]]:
    """The line segments of an image (H, W): x and y of both ends, in pixels."""
    found = cv2.createLineSegmentDetector(cv2.LSD_REFINE_STD).detect(grey)[0]
    return [] if found is None else np.asarray(found).reshape(-1, 4).tolist()


def roundness(thing: NDArray[np.bool_]) -> float:
    """Share of a thing's outline (H, W) that lies on the circle fitted to it.

    Returns NaN where the thing touches the image's border, which cuts its outline.
    """
    outlines, _ = cv2.findContours(thing.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = max(outlines, key=cv2.contourArea)[:, 0].astype(np.float64)  # (N, 2)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    height, width = thing.shape
    if left == 0 or top == 0 or right == width - 1 or bottom == height - 1:
        return float("nan")
    centre, radius = _circle(points)
    error = np.abs(np.hypot(*(points - centre).T) - radius)
    return float((error <= max(NEAR, ROUND_WITHIN * radius)).mean())


def _circle(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Centre (2,) and radius of the circle nearest to points (N, 2), by least squares (Kåsa 1976)."""
    equations = np.c_[2 * points, np.ones(len(points))]
    x, y, rest = np.linalg.lstsq(equations, (points**2).sum(axis=1), rcond=None)[0]
    return np.array([x, y]), float(np.sqrt(rest + x**2 + y**2))
