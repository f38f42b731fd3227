"""A sweep over one or two settings as one labelled sheet."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from maquette.cli.generation.varied import Sweep
from maquette.foundation.files import atomic_write
from maquette.foundation.images import image_grid
from maquette.sampling.metadata import FORMATS


def write_sheet(images: Sequence[Image.Image], sweeps: Sequence[Sweep], path: Path) -> None:
    """Write images, which are in rows, with the values of the first sweep below and of the second to the left."""
    columns = [f"{sweeps[0].name} {typed}" for typed, _ in sweeps[0].values]
    labels = [f"{sweeps[1].name} {typed}" for typed, _ in sweeps[1].values] if len(sweeps) > 1 else []
    side = max(images[0].size)
    squares = [ImageOps.pad(image, (side, side), color="white") for image in images]
    rows = [squares[start : start + len(columns)] for start in range(0, len(squares), len(columns))]
    with atomic_write(path) as temporary:
        image_grid(rows, labels, [columns] * len(rows), gap=6).save(temporary, FORMATS[path.suffix.lower()])
