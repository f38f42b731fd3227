"""Resize and crop images, for commands that take --size."""

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def framed(image: "Image.Image", size: tuple[int, int], categorical: bool = False) -> "Image.Image":
    """An image resized to `size` (width, height). If the aspect ratios differ, crops to the centre and warns.

    Args:
        categorical: resize by the nearest pixel, for class maps.
    """
    from maquette.conditions.requirements import resampling
    from maquette.errors import MaquetteWarning
    from maquette.foundation.images import fit

    if image.width * size[1] != image.height * size[0]:
        warnings.warn(
            f"The image is {image.width}×{image.height}; it is cropped at its centre to the shape of "
            f"{size[0]}×{size[1]}.",
            MaquetteWarning,
            stacklevel=2,
        )
    return fit(image, size, resampling(categorical))
