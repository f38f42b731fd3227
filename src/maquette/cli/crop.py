"""What of an image a result has room for, for verbs that take --size."""

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def framed(image: "Image.Image", size: tuple[int, int], categorical: bool = False) -> "Image.Image":
    """An image at a size, its middle where the shapes differ, and then a note; classes by the nearest pixel."""
    from maquette.conditions.requirements import resampling
    from maquette.errors import MaquetteWarning
    from maquette.foundation.images import fit

    if image.width * size[1] != image.height * size[0]:
        warnings.warn(
            f"The image is {image.width}×{image.height}; its middle is cut to the shape of {size[0]}×{size[1]}.",
            MaquetteWarning,
            stacklevel=2,
        )
    return fit(image, size, resampling(categorical))
