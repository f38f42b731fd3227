"""Class maps: class numbers, the palettes that colour them, and their files."""

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
    """Class numbers of an image and the palette to colour them with."""

    numbers: NDArray[np.integer]  # (H, W), rows of the palette
    palette: str  # a key of PALETTES


def class_map(classes: NDArray[np.integer], palette: NDArray[np.uint8] = DIORAMA_PALETTE) -> Image.Image:
    """Class numbers (H, W) as an RGB image in a palette (K, 3)."""
    return Image.fromarray(palette[classes])


def draw_classes(classes: Classes) -> Image.Image:
    """Class numbers as an RGB image in their palette.

    Raises `MaquetteError` for an unknown palette, and for a class that it does not have.
    """
    if classes.palette not in PALETTES:
        raise MaquetteError(unknown("palette", classes.palette, list(PALETTES)))
    palette = PALETTES[classes.palette]
    largest = int(classes.numbers.max(initial=0))
    if largest >= len(palette):
        raise MaquetteError(f"The palette {classes.palette!r} has classes 0 to {len(palette) - 1}, no {largest}.")
    return class_map(classes.numbers, palette)


def write_classes(classes: Classes, path: Path) -> None:
    """Class numbers as a grey PNG, 8 bits up to class 255, else 16; its text entry "palette" names the palette."""
    metadata = PngImagePlugin.PngInfo()
    metadata.add_text("palette", classes.palette)
    is_16_bit = classes.numbers.max(initial=0) > 255
    Image.fromarray(classes.numbers.astype(np.uint16 if is_16_bit else np.uint8)).save(path, "PNG", pnginfo=metadata)


def read_classes(path: Path, palette: str = "ade20k") -> Classes:
    """Read class numbers from a grey PNG of 8 or 16 bits, or an indexed one.

    Args:
        palette: used where the file names none.

    Raises `MaquetteError` for a file without class numbers.
    """
    try:
        with Image.open(path) as image:
            numbers, mode, metadata = np.array(image), image.mode, image.info
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise MaquetteError(f"The class numbers {str(path)!r} cannot be read ({error}).") from error
    if mode not in ("L", "P", "I;16", "I") or int(numbers.min(initial=0)) < 0:
        raise MaquetteError(
            f"{str(path)!r} holds colours, not class numbers, which are a grey PNG. An image in a palette's colours is "
            "already a class map and needs no detector."
        )
    return Classes(numbers.astype(np.uint16), str(metadata.get("palette", palette)))


RECORD = Record(".classes.png", draw_classes, write_classes, read_classes)
