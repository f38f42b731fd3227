"""The images that a command is given: which files, and how they get the size of the generated ones."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from maquette.cli.generation.options import Fit
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.images import as_rgb, fit

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def images_in(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, folders as the images in them, by name.

    Raises `MaquetteError` for a folder without images.
    """
    found: list[Path] = []
    for path in paths:
        inside = [file for file in sorted(path.iterdir()) if file.suffix.lower() in ENDINGS] if path.is_dir() else None
        if inside == []:
            raise MaquetteError(f"The folder {str(path)!r} holds no images ({', '.join(ENDINGS)}).")
        found += inside or [path]
    return found


def sized(
    image: Image.Image, size: tuple[int, int], how: Fit, method: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    """An image at `size` (width, height), RGB, without bars; warns if a part is cut off.

    Args:
        how: with "pad", the largest image of its own shape that fits into `size`.
    """
    image = as_rgb(image)
    if image.width * size[1] == image.height * size[0] or how == "stretch":
        return image if image.size == size else image.resize(size, method)
    if how == "pad":
        return ImageOps.contain(image, size, method)
    warnings.warn(
        f"An image of {image.width}×{image.height} is cut at its centre to the shape of {size[0]}×{size[1]}; "
        "--fit pad or --fit stretch keeps all of it.",
        MaquetteWarning,
        stacklevel=2,
    )
    return fit(image, size, method)


def padded(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An image in the middle of black bars, where a condition map asks for nothing."""
    if image.size == size:
        return image
    canvas = Image.new(image.mode, size)
    canvas.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return canvas
