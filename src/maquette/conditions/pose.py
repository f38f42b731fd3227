"""Skeletons of 18 key points, drawn in Openpose's colours and limb order."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
"""Pairs of key points that a limb joins, in Openpose's order."""

COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255),
    (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
"""Colour of each limb and each key point."""


def pose_map(keypoints: NDArray[np.floating], size: tuple[int, int]) -> Image.Image:
    """People (P, 18, 3), each point x, y in pixels and its confidence, drawn on black of `size` (width, height).

    Points of confidence 0 are left out, and limbs that end in them. Strokes are 4 pixels wide at a height of 512.
    """
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    radius = max(1.5, 4 * min(size) / 512)
    for person in np.asarray(keypoints, np.float64):
        for (x, y, confidence), colour in zip(person, COLOURS, strict=True):
            if confidence > 0:
                cv2.circle(canvas, (round(x), round(y)), round(radius), colour, -1)
    for (a, b), colour in zip(LIMBS, COLOURS, strict=False):
        for person in np.asarray(keypoints, np.float64):
            if person[a, 2] > 0 and person[b, 2] > 0:
                canvas = _draw_limb(canvas, person[a, :2], person[b, :2], radius, colour)
    return Image.fromarray(canvas)


def _draw_limb(
    canvas: NDArray[np.uint8],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    radius: float,
    colour: tuple[int, int, int],
) -> NDArray[np.uint8]:
    """An ellipse from point to point, at 60 % over what is there."""
    layer = canvas.copy()
    middle = tuple(round(v) for v in (start + end) / 2)
    half = max(1, round(float(np.hypot(*(end - start))) / 2))
    angle = round(math.degrees(math.atan2(end[1] - start[1], end[0] - start[0])))
    cv2.fillConvexPoly(layer, cv2.ellipse2Poly(middle, (half, round(radius)), angle, 0, 360, 1), colour)
    return np.asarray(cv2.addWeighted(canvas, 0.4, layer, 0.6, 0), np.uint8)
