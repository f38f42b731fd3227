"""How images that a command or a request gives get the size of the generated ones, and become condition maps."""

import warnings
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageOps

from maquette.conditions.detect import Detector
from maquette.conditions.labels import read_class_map, unpainted
from maquette.conditions.requirements import kind_of
from maquette.controlnet.contract import Contract
from maquette.errors import MaquetteWarning
from maquette.foundation.images import MapKind, as_rgb, fit, read_image
from maquette.foundation.settings import Fit


def sized(image: Image.Image, size: tuple[int, int], how: Fit, kind: MapKind = "smooth") -> Image.Image:
    """An image at `size` (width, height), RGB, without bars; warns if a part is cut off.

    Args:
        how: with "pad", the largest image of its own shape that fits into `size`.
        kind: how it is resized, if it is a condition map.
    """
    image = as_rgb(image)
    if image.width * size[1] == image.height * size[0]:
        return fit(image, size, kind)
    if how == "stretch":
        return image.resize(size, Image.Resampling.NEAREST if kind == "classes" else Image.Resampling.LANCZOS)
    if how == "pad":
        scale = min(size[0] / image.width, size[1] / image.height)
        inside = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return fit(image, inside, kind)
    warnings.warn(
        f"An image of {image.width}×{image.height} is cut at its centre to the shape of {size[0]}×{size[1]}; "
        "--fit pad or --fit stretch keeps all of it.",
        MaquetteWarning,
        stacklevel=2,
    )
    return fit(image, size, kind)


def sized_mask(mask: Image.Image, size: tuple[int, int], how: Fit) -> Image.Image:
    """A mask at `size` (width, height) as the image that it belongs to.

    It is scaled by area, as in `sampling`: other filters ring, and lighten black beside an edge.
    """
    area = Image.Resampling.BOX
    if how == "stretch":
        return mask.resize(size, area)
    scaled = ImageOps.contain(mask, size, area) if how == "pad" else ImageOps.fit(mask, size, area)
    return padded(scaled, size)


def detected(
    detector: Detector, image: Image.Image, size: tuple[int, int], how: Fit, contract: Contract, **options: Any
) -> Image.Image:
    """The condition map of an image, in the order in which the maps of a ControlNet's training were made."""
    if contract.order == "detect, then resize":
        return sized(detector(image, **options), size, how, detector.spec.kind)
    return detector(sized(image, size, how), **options)


def read_map(
    source: Path | IO[bytes], name: str, condition: str, contract: Contract, palette: str | None
) -> tuple[Image.Image, MapKind]:
    """A ready condition map, RGB, and how it is resized for a ControlNet.

    Args:
        name: of the image, for error messages.
        condition: its name, which tells the kind of map where the contract does not.
        palette: of class numbers; None for a map in colours.

    Raises `MaquetteError` for a map that cannot be read, and for a palette that does not suit it.
    """
    named = kind_of(condition, categorical=palette is not None or contract.categorical)
    kind = named if named == "classes" or not contract.stated else contract.kind
    if kind != "classes":
        return read_image(source, name), kind
    if palette is None and (words := unpainted(source, name)):
        warnings.warn(words, MaquetteWarning, stacklevel=2)
    return read_class_map(source, name, palette), kind


def padded(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An image in the middle of black bars, where a condition map asks for nothing."""
    if image.size == size:
        return image
    canvas = Image.new(image.mode, size)
    canvas.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return canvas
