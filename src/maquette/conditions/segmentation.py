"""Class maps in a palette."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DIORAMA_PALETTE = np.array(
    [
        (120, 180, 230),  # sky
        (150, 120, 190),  # hills
        (90, 140, 70),  # ground
        (230, 40, 40),  # ball
        (250, 160, 20),  # cube
        (250, 230, 40),  # cylinder
        (40, 220, 220),  # cone
        (170, 60, 20),  # house
        (20, 90, 20),  # tree
        (240, 50, 200),  # person
    ],
    np.uint8,
)
"""Colour of each class of the diorama."""


def class_map(classes: NDArray[np.integer], palette: NDArray[np.uint8] = DIORAMA_PALETTE) -> Image.Image:
    """Class numbers (H, W) as a picture in a palette (K, 3)."""
    return Image.fromarray(palette[classes])
