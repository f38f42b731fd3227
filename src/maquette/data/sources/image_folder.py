"""A data set of images alone: those in a folder and its subfolders, sorted by path."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from maquette.data.sources.jsonl import BadRow, Columns, File, Row
from maquette.errors import MaquetteWarning

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class ImageFolder:
    """The images of a folder as rows without conditions and with empty texts. Warns if texts were requested."""

    def __init__(self, folder: Path, images: Sequence[Path], columns: Columns) -> None:
        if columns.has_texts:
            warnings.warn(
                f"{str(folder)!r} holds only images, so their texts are empty; write a metadata.jsonl, or caption the "
                "images.",
                MaquetteWarning,
                stacklevel=2,
            )
        self.faults: Sequence[BadRow] = ()
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> Row:
        path = self._images[number]
        return Row(str(path), File(path), None, "")


def images_in(folder: Path) -> list[Path]:
    """All images in a folder and its subfolders, by file extension; hidden files and folders are skipped."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
