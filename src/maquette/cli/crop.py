"""Resize and crop images, for commands that take --size."""

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from maquette.foundation.images import MapKind


def framed(image: "Image.Image", size: tuple[int, int], kind: "MapKind" = "smooth") -> "Image.Image":
    """An image resized to `size` (width, height). If the aspect ratios differ, crops to the centre and warns.

    Args:
        kind: how it is resized, if it is a condition map.
    """
    from maquette.foundation.images import fit

    _warn_of_a_cut(image, size)
    return fit(image, size, kind)


def _warn_of_a_cut(image: "Image.Image", size: tuple[int, int]) -> None:
    from maquette.errors import MaquetteWarning

    if image.width * size[1] != image.height * size[0]:
        warnings.warn(
            f"The image is {image.width}×{image.height}; it is cropped at its centre to the shape of "
            f"{size[0]}×{size[1]}.",
            MaquetteWarning,
            stacklevel=3,
        )
