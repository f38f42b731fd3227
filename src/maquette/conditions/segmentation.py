"""Class maps in a palette, and back."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.errors import MaquetteError

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


def classes_of(picture: Image.Image, palette: NDArray[np.uint8] = DIORAMA_PALETTE) -> NDArray[np.uint8]:
    """The class numbers of a picture in exactly a palette's colours."""
    pixels = np.asarray(picture, np.int32)
    distance = np.abs(pixels[:, :, None] - palette.astype(np.int32)).sum(axis=-1)
    if (distance.min(axis=-1) > 0).any():
        row, column = np.argwhere(distance.min(axis=-1) > 0)[0]
        raise MaquetteError(
            f"A class map holds the palette's colours only; the pixel at x={column}, y={row} is "
            f"{tuple(int(v) for v in pixels[row, column])}. Save it as PNG, without smoothing."
        )
    return distance.argmin(axis=-1).astype(np.uint8)
