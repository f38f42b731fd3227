"""Skeletons of 18 key points in OpenPose's colours and limb order; hands and faces as its editors draw them."""

import colorsys
import math

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.drawing.people import People

LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
"""Key points joined by each limb, in OpenPose's order."""

COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255),
    (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
"""Colour of each limb and each key point."""

FINGERS = tuple((0 if joint % 4 == 1 else joint - 1, joint) for joint in range(1, 21))
"""Points of a hand joined by each line: from the wrist (0) along each finger."""

FINGER_COLOURS = tuple(
    tuple(round(255 * level) for level in colorsys.hsv_to_rgb(number / len(FINGERS), 1, 1))
    for number in range(len(FINGERS))
)
JOINT, FACE_DOT = (0, 0, 255), (255, 255, 255)


def pose_map(keypoints: NDArray[np.floating], size: tuple[int, int]) -> Image.Image:
    """People (P, 18, 3), each point x, y in pixels and its confidence, drawn on black at `size` (width, height).

    Points of confidence 0 are left out, with their limbs. Points and limbs have a radius of 4 pixels at a short side of
    512.
    """
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    radius = _radius(size)
    for person in np.asarray(keypoints, np.float64):
        for (x, y, confidence), colour in zip(person, COLOURS, strict=True):
            if confidence > 0:
                cv2.circle(canvas, (round(x), round(y)), round(radius), colour, -1)
    for (a, b), colour in zip(LIMBS, COLOURS, strict=False):
        for person in np.asarray(keypoints, np.float64):
            if person[a, 2] > 0 and person[b, 2] > 0:
                _draw_limb(canvas, person[a, :2], person[b, :2], radius, colour)
    return Image.fromarray(canvas)


def people_map(people: People) -> Image.Image:
    """Bodies as in `pose_map`, with hands (fingers in rainbow colours) and faces (white dots) over them."""
    canvas = np.array(pose_map(people.body, people.size))
    radius = _radius(people.size)
    for hand in people.hands.reshape(-1, *people.hands.shape[2:]):
        _draw_hand(canvas, hand, radius)
    for x, y, confidence in people.face.reshape(-1, 3):
        if confidence > 0:
            cv2.circle(canvas, (round(x), round(y)), max(1, round(radius * 3 / 4)), FACE_DOT, -1)
    return Image.fromarray(canvas)


def _radius(size: tuple[int, int]) -> float:
    return max(1.5, 4 * min(size) / 512)


def _draw_limb(
    canvas: NDArray[np.uint8],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    radius: float,
    colour: tuple[int, int, int],
) -> None:
    """An ellipse from `start` to `end` (2,), blended at 60 % over the canvas (H, W, 3)."""
    middle = tuple(round(v) for v in (start + end) / 2)
    half = max(1, round(float(np.hypot(*(end - start))) / 2))
    angle = round(math.degrees(math.atan2(end[1] - start[1], end[0] - start[0])))
    outline = np.asarray(cv2.ellipse2Poly(middle, (half, round(radius)), angle, 0, 360, 1))
    left, top = np.maximum(outline.min(axis=0), 0)
    right, bottom = outline.max(axis=0) + 1
    below = canvas[top : max(bottom, 0), left : max(right, 0)]  # the bounding box
    if below.size:
        layer = below.copy()
        cv2.fillConvexPoly(layer, outline - (left, top), colour)
        below[:] = cv2.addWeighted(below, 0.4, layer, 0.6, 0)


def _draw_hand(canvas: NDArray[np.uint8], hand: NDArray[np.float64], radius: float) -> None:
    """Draw a hand (21, 3) on the canvas (H, W, 3): lines of half the points' width, points above them."""
    for (a, b), colour in zip(FINGERS, FINGER_COLOURS, strict=True):
        if hand[a, 2] > 0 and hand[b, 2] > 0:
            start, end = ((round(x), round(y)) for x, y, _ in hand[[a, b]])
            cv2.line(canvas, start, end, colour, max(1, round(radius / 2)))
    for x, y, confidence in hand:
        if confidence > 0:
            cv2.circle(canvas, (round(x), round(y)), round(radius), JOINT, -1)
