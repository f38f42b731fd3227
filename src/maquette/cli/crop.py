"""Frame images and make condition maps, for commands that take --size."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from maquette.conditions.detect import Detector
    from maquette.controlnet.contract import Contract
    from maquette.foundation.images import MapKind


def framed(image: "Image.Image", size: tuple[int, int], kind: "MapKind" = "smooth") -> "Image.Image":
    """An image resized to `size` (width, height). If the aspect ratios differ, crops to the centre and warns.

    Args:
        kind: how it is resized, if it is a condition map.
    """
    from maquette.foundation.images import fit

    _warn_of_a_cut(image, size)
    return fit(image, size, kind)


def detected(
    detector: "Detector", image: "Image.Image", size: tuple[int, int], contract: "Contract", **options: Any
) -> "Image.Image":
    """The condition map (RGB, of `size`) of an image, in the order in which a ControlNet's maps were made.

    If the aspect ratios differ, crops to the centre and warns.
    """
    _warn_of_a_cut(image, size)
    return detector.in_frame(image, size, contract.order or "frame, then detect", **options)


def opened_map(path: Path, size: tuple[int, int], condition: str, contract: "Contract", palette: str | None) -> Any:
    """A ready condition map, RGB, brought to `size` as a ControlNet's maps were.

    Args:
        condition: its name, which tells the kind of map where the contract does not.
        palette: of class numbers; None for a map in colours.

    Raises `MaquetteError` for a map that cannot be read, and for a palette that does not suit it.
    """
    from maquette.conditions.labels import read_class_map, unpainted
    from maquette.conditions.requirements import kind_of
    from maquette.errors import MaquetteWarning
    from maquette.foundation.images import open_image

    named = kind_of(condition, categorical=palette is not None or contract.categorical)
    kind = named if named == "classes" or not contract.stated else contract.kind
    if kind != "classes":
        return framed(open_image(path), size, kind)
    image = read_class_map(path, str(path), palette)
    if palette is None and (words := unpainted(path, str(path))):
        warnings.warn(words, MaquetteWarning, stacklevel=2)
    return framed(image, size, kind)


def _warn_of_a_cut(image: "Image.Image", size: tuple[int, int]) -> None:
    from maquette.errors import MaquetteWarning

    if image.width * size[1] != image.height * size[0]:
        warnings.warn(
            f"The image is {image.width}×{image.height}; it is cropped at its centre to the shape of "
            f"{size[0]}×{size[1]}.",
            MaquetteWarning,
            stacklevel=3,
        )
