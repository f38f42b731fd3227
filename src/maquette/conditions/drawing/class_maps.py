"""Class maps in a palette, and the class numbers that they are drawn from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from maquette.conditions.drawing.palettes import ADE20K, COCO, COCO_STUFF
from maquette.conditions.spec import Record
from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown

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

PALETTES = {"ade20k": ADE20K, "coco": COCO, "coco-stuff": COCO_STUFF, "diorama": DIORAMA_PALETTE}


@dataclass(frozen=True, eq=False)
class Classes:
    """What a class map is drawn from."""

    numbers: NDArray[np.integer]  # (H, W), each a row of the palette
    palette: str  # a key of PALETTES


def class_map(classes: NDArray[np.integer], palette: NDArray[np.uint8] = DIORAMA_PALETTE) -> Image.Image:
    """Class numbers (H, W) as an image in a palette (K, 3)."""
    return Image.fromarray(palette[classes])


def draw_classes(classes: Classes) -> Image.Image:
    """`MaquetteError` for a palette that is not known, and for a class that it does not have."""
    if classes.palette not in PALETTES:
        raise MaquetteError(unknown("palette", classes.palette, list(PALETTES)))
    palette = PALETTES[classes.palette]
    largest = int(classes.numbers.max(initial=0))
    if largest >= len(palette):
        raise MaquetteError(f"The palette {classes.palette!r} has classes 0 to {len(palette) - 1}, none {largest}.")
    return class_map(classes.numbers, palette)


def write_classes(classes: Classes, path: Path) -> None:
    """Class numbers as a grey PNG, of 8 bits up to class 255 and else of 16; its text "palette" names the palette."""
    words = PngImagePlugin.PngInfo()
    words.add_text("palette", classes.palette)
    deep = classes.numbers.max(initial=0) > 255
    Image.fromarray(classes.numbers.astype(np.uint16 if deep else np.uint8)).save(path, "PNG", pnginfo=words)


def read_classes(path: Path, palette: str = "ade20k") -> Classes:
    """Class numbers of a grey PNG of 8 or 16 bits, or of one with indices.

    Args:
        palette: where the file names none.

    Raises `MaquetteError` for a file that holds no class numbers.
    """
    try:
        with Image.open(path) as image:
            numbers, mode, words = np.array(image), image.mode, image.info
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise MaquetteError(f"The class numbers {str(path)!r} cannot be read ({error}).") from error
    if mode not in ("L", "P", "I;16", "I") or int(numbers.min(initial=0)) < 0:
        raise MaquetteError(
            f"{str(path)!r} holds colours, not class numbers: those are a grey PNG. An image that is painted in a "
            "palette is one already, and needs no detector."
        )
    return Classes(numbers.astype(np.uint16), str(words.get("palette", palette)))


RECORD = Record(".classes.png", draw_classes, write_classes, read_classes)
