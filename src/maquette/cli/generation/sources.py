"""Which images a command goes through. This module does not import torch."""

from collections.abc import Sequence
from pathlib import Path

from maquette.errors import MaquetteError

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
