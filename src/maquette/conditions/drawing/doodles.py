"""Doodles: what things are outlined by, in few strokes of a pen, as people draw who do not draw what is inside."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

LEAST = 0.002  # of the picture: nobody would outline smaller things
LEFT_OUT = 0.2  # of the things, by chance
MOVED = 0.01  # of the picture's height: the deviation of a corner
SIMPLER = 0.02  # of the picture's height: how far at most an outline leaves the thing's own
WIDTHS = (2.0, 9.0)  # of the pen, in pixels at a height of 128


def doodle(classes: NDArray[np.uint8], background: int, rng: np.random.Generator) -> Image.Image:
    """White strokes on black around the things of a class map, each as a polygon of few corners.

    Every connected region of a class is a thing; some are left out, and corners are moved, by chance.

    Args:
        classes: (H, W) class numbers.
        background: numbers below this are no things.
    """
    height, width = classes.shape
    drawn = np.zeros((height, width), np.uint8)
    pen = max(1, round(rng.uniform(*WIDTHS) * height / 128))
    outlines = _outlines(classes, background)
    chosen = [outline for outline in outlines if rng.random() >= LEFT_OUT] or outlines
    for outline in chosen:
        corners = cv2.approxPolyDP(outline, rng.uniform(0, SIMPLER) * height, True)
        moved = corners + rng.normal(0, MOVED * height, corners.shape)
        cv2.polylines(drawn, [np.rint(moved).astype(np.int32)], True, 255, pen)
    return Image.fromarray(drawn).convert("RGB")


def _outlines(classes: NDArray[np.uint8], background: int) -> list[NDArray[np.int32]]:
    """The outer contour (N, 1, 2) of each thing that is large enough."""
    found: list[NDArray[np.int32]] = []
    for number in np.unique(classes[classes >= background]):
        contours, _ = cv2.findContours((classes == number).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        found += [np.asarray(one, np.int32) for one in contours if cv2.contourArea(one) >= LEAST * classes.size]
    return found
