"""Class maps that hold numbers: label images as data sets publish them, coloured as ControlNets were trained."""

from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.drawing.class_maps import (
    ADE20K,
    COCO_STUFF_182,
    DIORAMA_PALETTE,
    NOTHING,
    PALETTES,
    Classes,
    draw_classes,
)
from maquette.errors import MaquetteError
from maquette.foundation.images import as_rgb, read_image
from maquette.foundation.registry import unknown

LabelPalette = Literal["ade20k", "coco-stuff", "diorama"]

GREY = ("L", "I", "I;16", "I;16L", "I;16B")  # modes of one channel
BLACK = np.zeros((1, 3), np.uint8)  # the colour of pixels without a class

COLOURS: dict[str, NDArray[np.uint8]] = {
    "ade20k": np.concatenate([BLACK, ADE20K]),
    "coco-stuff": COCO_STUFF_182,
    "diorama": DIORAMA_PALETTE,
}
"""Colour (K, 3) of each number of a label image.

ADE20K's scene parsing (ADEChallengeData2016) has 0 for nothing and its 150 classes from 1, one more than networks and
palettes number them. COCO-Stuff (stuffthingmaps) has its 182 classes from 0, one less than its list, and 255 for
nothing. The diorama's are the rows of its palette. 255 is nothing everywhere.
"""


LARGEST = max(map(len, COLOURS.values())) - 1  # number of a class


def check_palette(palette: str) -> None:
    """Raises `MaquetteError` for a palette that no label images have."""
    if palette not in COLOURS:
        raise MaquetteError(unknown("palette", palette, list(COLOURS)))


def colour_labels(numbers: NDArray[np.integer], palette: str) -> Image.Image:
    """Class numbers (H, W), as a data set's label images hold them, in the colours of its class maps: RGB.

    Args:
        palette: "ade20k", "coco-stuff" or "diorama".

    Raises `MaquetteError` for an unknown palette, and for a number that is no class of it.
    """
    check_palette(palette)
    colours = COLOURS[palette]
    is_class = numbers != NOTHING
    strange = numbers[is_class & ((numbers < 0) | (numbers >= len(colours)))]
    if strange.size:
        raise MaquetteError(
            f"Class numbers of {palette} are 0 to {len(colours) - 1}, or {NOTHING} for nothing, not {int(strange[0])}; "
            "give the palette of the data set that they come from."
        )
    return Image.fromarray(np.where(is_class[..., None], colours[numbers * is_class], BLACK))


def read_class_map(source: Path | IO[bytes], name: str, palette: str | None = None) -> Image.Image:
    """Read a class map in colours, RGB, from an image of class colours or of class numbers.

    Numbers written by `maquette detect --keep` name their palette themselves.

    Args:
        name: of the image, for error messages.
        palette: of the numbers; None for an image in colours, which is taken as it is.

    Raises `MaquetteError` for an image that cannot be read, and with a palette for one in colours.
    """
    image = read_image(source, name, Image.Image.copy)
    numbers = _numbers(image)
    own = image.info.get("palette")
    if numbers is not None and isinstance(own, str) and own in PALETTES:
        return draw_classes(Classes(numbers, own))
    if palette is None:
        return as_rgb(image)
    if numbers is None:
        raise MaquetteError(f"{name!r} holds colours, not class numbers; leave the palette out, or give a grey PNG.")
    try:
        return colour_labels(numbers, palette)
    except MaquetteError as error:
        raise MaquetteError(f"{name!r}: {error}") from None


def unpainted(source: Path | IO[bytes], name: str) -> str | None:
    """A warning for a class map that seems to hold numbers and is given without a palette; None for any other.

    Such an image has one channel, no palette of its own, and, besides 255, no value above the largest class's number.
    """
    image = read_image(source, name, Image.Image.copy)
    if image.mode not in GREY or image.info.get("palette") in PALETTES:
        return None
    numbers = np.asarray(image).astype(np.int64)
    largest = int(numbers[numbers != NOTHING].max(initial=0))
    if not 0 < largest <= LARGEST:
        return None
    return (
        f"{name!r} has one channel with values up to {largest}, as images of class numbers have; they are taken as "
        f"greys. If they are numbers, give their palette: {', '.join(get_args(LabelPalette))}."
    )


MOST_CLASSES = 64  # that one image shows; shades of grey have more values


def seem_numbers(image: Image.Image) -> int | None:
    """The largest value of an image that seems to hold class numbers; None for any other.

    It is grey, and besides 255 and 0 it has a few values, none above the largest class's number.
    """
    numbers = _numbers(image) if image.mode != "P" else None
    values = np.unique(numbers) if numbers is not None else np.zeros(0, np.int64)
    values = values[(values != NOTHING) & (values != 0)]
    if not 0 < len(values) <= MOST_CLASSES or values[0] < 0 or values[-1] > LARGEST:
        return None
    return int(values[-1])


def palette_of(image: Image.Image) -> str | None:
    """The palette that all colours of an image belong to, besides black; None for an image in other or no colours."""
    colours = as_rgb(image).getcolors(len(COCO_STUFF_182) + 1)
    found: set[Any] = {colour for _, colour in colours or () if colour != (0, 0, 0)}
    if not any(len(set(colour)) > 1 for colour in found):  # grey alone
        return None
    return next((name for name, palette in PALETTES.items() if found <= set(map(tuple, palette.tolist()))), None)


def _numbers(image: Image.Image) -> NDArray[np.integer] | None:
    """The values (H, W) of an image of one channel, or of three that are equal; None for an image in colours."""
    if image.mode in (*GREY, "P"):
        return np.asarray(image).astype(np.int64)
    if image.mode != "RGB":
        return None
    values = np.asarray(image)
    is_grey = bool((values == values[..., :1]).all())
    return values[..., 0].astype(np.int64) if is_grey else None
