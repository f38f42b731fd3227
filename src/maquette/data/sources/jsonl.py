"""Rows of a data set of any format: where a pair's image, condition and text are stored, and how they are read."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Protocol

from PIL import Image

from maquette.conditions.labels import read_class_map
from maquette.errors import MaquetteError
from maquette.foundation.images import ORIENTATION, MapKind, read_image
from maquette.foundation.reading.files import inside, read_bytes
from maquette.foundation.reading.pictures import MOST_BYTES, opened_picture

SMALLEST = 32  # pixels a side: smaller images are not worth training on
ASPECT = 1.02  # the largest factor between the aspect ratios of image and condition


class ImageRef(Protocol):
    """A stored image: PNG, JPEG or WebP bytes, read on demand."""

    @property
    def name(self) -> str:
        """Where it is stored, for messages."""

    def read(self) -> bytes:
        """Its encoded bytes. Raises `OSError` if they cannot be read."""

    def mark(self) -> bytes | None:
        """What changes when it is written anew, found without reading it; None where only its bytes tell.

        Raises `OSError` if it is gone.
        """


def mark_of(path: Path, *place: int) -> bytes:
    """What changes when a file is written anew: its size, time and inode, and the place of a part in it.

    Raises `OSError` if there is no such file.
    """
    seen = path.stat()
    return repr((seen.st_size, seen.st_mtime_ns, seen.st_ino, *place)).encode()


@dataclass(frozen=True)
class File:
    """An image in a file."""

    path: Path

    def mark(self) -> bytes:
        return mark_of(self.path)

    @property
    def name(self) -> str:
        return str(self.path)

    def read(self) -> bytes:
        return read_bytes(self.path, MOST_BYTES)


@dataclass(frozen=True)
class Row:
    where: str  # file and line, for messages
    image: ImageRef
    condition: ImageRef | None  # None: a detector computes it from the image
    text: str


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why."""

    where: str
    reason: str
    row: int | None = None  # its number in the source, if it has one


class RowError(MaquetteError):
    """A row that cannot be read."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.fault = BadRow(where, reason)

    def __str__(self) -> str:
        return f"{self.fault.where}: {self.fault.reason}"


@dataclass(frozen=True)
class Names:
    """The column names of a source."""

    image: str
    condition: str | None  # None: the source has no conditions
    text: str | None  # None: the source has no texts, so they are empty


@dataclass(frozen=True)
class Columns:
    """The user's column names; None: the default of the source's format.

    Raises `MaquetteError` for the name of a column that is not to be read.
    """

    image: str | None = None
    condition: str | None = None
    text: str | None = None
    has_conditions: bool = True  # False: a detector computes them from the images
    has_texts: bool = True  # False: a captioner writes them, or they are empty
    outside: bool = False  # whether rows may name images outside of the data set's folder

    def __post_init__(self) -> None:
        if self.condition and not self.has_conditions:
            raise MaquetteError(
                f"Conditions are either read from {self.condition!r} or computed by a detector, not both."
            )
        if self.text and not self.has_texts:
            raise MaquetteError(f"Texts are either read from {self.text!r} or left out, not both.")

    def names(self, defaults: Names) -> Names:
        """The names to read, with a format's defaults where the user gave none."""
        condition = (self.condition or defaults.condition) if self.has_conditions else None
        text = (self.text or defaults.text) if self.has_texts else None
        return Names(self.image or defaults.image, condition, text)


DEFAULT_COLUMNS = Columns()


def found(name: str, folder: Path, columns: Columns) -> Path | None:
    """The path of an image that a row of a data set in `folder` names; None if it may not be read."""
    return folder / name if columns.outside else inside(name, folder)


def leaves(name: str) -> str:
    """Why the image that a row names is not read."""
    return f"names {name!r}, which lies outside of the data set's folder; allow that with --outside (outside=True)"


class Source(Protocol):
    """The rows of a data set by number; it can be pickled."""

    @property
    def faults(self) -> Sequence[BadRow]:
        """What could not be parsed when the source was opened; these have no row number."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Row:
        """A row. Raises `RowError` if it cannot be read."""


@dataclass(frozen=True)
class Example:
    """A row, loaded: RGB images, turned upright as their EXIF says."""

    image: Image.Image
    condition: Image.Image | None
    text: str


def open_stored(stored: ImageRef) -> Image.Image:
    """Load a stored image: RGB, turned upright.

    Raises `MaquetteError` if it is missing, broken or not an image.
    """
    return read_image(_content(stored), stored.name)


def open_class_map(stored: ImageRef, palette: str | None) -> Image.Image:
    """Load a stored class map in colours, RGB; class numbers are coloured as `palette` names them.

    Raises `MaquetteError` as `open_stored` and `read_class_map` do.
    """
    return read_class_map(_content(stored), stored.name, palette)


def _content(stored: ImageRef) -> IO[bytes]:
    try:
        return io.BytesIO(stored.read())
    except OSError as error:
        raise MaquetteError(f"There is no image at {stored.name!r} ({error.strerror or error}).") from error


OpenImage = Callable[[ImageRef], Image.Image]


def condition_opener(kind: MapKind, palette: str | None = None) -> OpenImage:
    """How the conditions of a data set are loaded: class maps may hold numbers, of a palette."""
    return partial(open_class_map, palette=palette) if kind == "classes" else open_stored


def read(row: Row, open_condition: OpenImage = open_stored) -> Example:
    """Load both images of a row.

    Args:
        open_condition: loads the condition, as `condition_opener` returns it.

    Raises `RowError` if one is missing, broken or too small, or if the condition's aspect ratio differs from the
    image's, so that it cannot show the same frame.
    """
    try:
        image = _large_enough(row.image, open_stored)
        condition = _large_enough(row.condition, open_condition) if row.condition else None
    except MaquetteError as error:
        raise RowError(row.where, str(error)) from error
    if condition is not None:
        check_frame(row, image.size, condition.size)
    return Example(image, condition, row.text)


def read_condition(row: Row, open_condition: OpenImage = open_stored) -> Image.Image:
    """Load the condition alone, and of the image only the header.

    Raises `RowError` as `read` does.
    """
    assert row.condition is not None, "a source without conditions has none to read"
    try:
        condition = _large_enough(row.condition, open_condition)
        size = size_of(row.image)
    except MaquetteError as error:
        raise RowError(row.where, str(error)) from error
    check_frame(row, size, condition.size)
    return condition


def check_frame(row: Row, image: tuple[int, int], condition: tuple[int, int]) -> None:
    """Raises `RowError` unless both sizes (width, height) have the same aspect ratio."""
    ratio = image[0] * condition[1] / (image[1] * condition[0])
    if not 1 / ASPECT <= ratio <= ASPECT:
        raise RowError(
            row.where,
            f"The image is {image[0]}×{image[1]} and its condition {condition[0]}×{condition[1]}: they do not "
            "show the same frame; give both the same aspect ratio.",
        )


def size_of(stored: ImageRef) -> tuple[int, int]:
    """Width and height of an image turned upright, from its header alone.

    Raises `MaquetteError` if the header cannot be read.
    """
    with opened_picture(_content(stored), stored.name) as image:
        is_rotated = image.getexif().get(ORIENTATION, 1) in range(5, 9)
        return (image.height, image.width) if is_rotated else image.size


def _large_enough(stored: ImageRef, open_image: OpenImage) -> Image.Image:
    image = open_image(stored)
    if min(image.size) < SMALLEST:
        raise MaquetteError(
            f"{stored.name!r} is {image.width}×{image.height}; an image has {SMALLEST} pixels or more per side."
        )
    return image


def peculiarities(stored: ImageRef) -> Iterator[str]:
    """What is unusual about a readable image, and how it is handled."""
    name = stored.name
    try:
        yield from _peculiar(stored)
    except MaquetteError as error:  # such as a GIF that ends after its first frame
        yield f"{str(error).rstrip('.')}; its pixels can be read"
    if isinstance(stored, File) and (not stored.path.name.isascii() or " " in stored.path.name):
        yield f"{name!r} has a name with spaces or non-ASCII letters, which other tools may not read; it is read as is"


def _peculiar(stored: ImageRef) -> Iterator[str]:
    name = stored.name
    with opened_picture(_content(stored), name) as image:
        if (frames := getattr(image, "n_frames", 1)) > 1:
            yield f"{name!r} has {frames} frames; only the first is used"
        if image.mode == "CMYK":
            yield f"{name!r} is in CMYK, which has no exact RGB; save it as RGB if its colours matter"
        if image.mode.startswith(("I", "F")):
            yield f"{name!r} has more than 8 bits per channel; it is scaled to 8"
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            yield f"{name!r} is partly transparent; it is composited on white"
        if image.getexif().get(ORIENTATION, 1) != 1:
            yield f"{name!r} is rotated or mirrored; it is turned upright as its EXIF says"
