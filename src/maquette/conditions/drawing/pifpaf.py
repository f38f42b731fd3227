"""Skeletons of COCO's 17 key points as Openpifpaf draws them (its `KeypointPainter`, with its default settings)."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.drawing.people import People, to_coco

SKELETON = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
    (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
"""COCO's key points joined by each line, in COCO's order of its person skeleton, counted from 0."""

COLOURS = (
    (31, 119, 180), (174, 199, 232), (255, 127, 14), (255, 187, 120), (44, 160, 44), (152, 223, 138), (214, 39, 40),
    (255, 152, 150), (148, 103, 189), (197, 176, 213), (140, 86, 75), (196, 156, 148), (227, 119, 194),
    (247, 182, 210), (127, 127, 127), (199, 199, 199), (188, 189, 34), (219, 219, 141), (23, 190, 207),
)  # fmt: skip
"""Colour of each line: the first 19 of Matplotlib's tab20."""

JOINT = (255, 255, 255)
LINE, DOT = 6 / (72 * 7), 3 / (72 * 7)
"""Widths as fractions of the image's width: lines of 6 points, dots of 3 with their edge, on a canvas of 7 inches."""


def pifpaf_map(people: People) -> Image.Image:
    """The bodies of people on black: all lines with round ends, then a white dot for each key point.

    Every point found counts as certain, so no line is dashed. Hands, faces and the neck are not part of the skeleton.
    """
    width, height = people.size
    canvas = np.zeros((height, width, 3), np.float32)
    bodies = to_coco(people.body)
    for body in bodies:
        for (a, b), colour in zip(SKELETON, COLOURS, strict=True):
            if body[a, 2] > 0 and body[b, 2] > 0:
                _paint(canvas, body[a, :2], body[b, :2], LINE * width, colour)
    for point in bodies[bodies[..., 2] > 0]:
        _paint(canvas, point[:2], point[:2], DOT * width, JOINT)
    return Image.fromarray((canvas + 0.5).astype(np.uint8))


def _paint(
    canvas: NDArray[np.float32],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    width: float,
    colour: tuple[int, ...],
) -> None:
    """Paint a line from `start` to `end` (2,), at least a pixel wide, with round ends and smooth edges.

    A pixel of the canvas (H, W, 3) is covered as far as its centre lies within the outline, up to half a pixel off it.
    """
    radius = max(width, 1.0) / 2
    left, top = np.maximum(np.floor(np.minimum(start, end) - radius), 0).astype(int)
    right, bottom = np.maximum(np.ceil(np.maximum(start, end) + radius) + 1, 0).astype(int)
    box = canvas[top:bottom, left:right]
    rows, columns = np.indices(box.shape[:2])
    x, y = columns + left - start[0], rows + top - start[1]
    along_x, along_y = end - start
    length = max(float(along_x**2 + along_y**2), 1e-9)
    nearest = np.clip((x * along_x + y * along_y) / length, 0, 1)  # on the line, as a fraction of it
    distance = np.hypot(x - nearest * along_x, y - nearest * along_y)
    cover = np.clip(radius + 0.5 - distance, 0, 1)[..., None]
    box += (cover * (np.array(colour) - box)).astype(np.float32)
