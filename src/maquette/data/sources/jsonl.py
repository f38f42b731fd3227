"""Rows of a data set of images, wherever it lies: where a pair and its words are, and how they are read."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from maquette.errors import MaquetteError
from maquette.foundation.images import read_image

SMALLEST = 32  # pixels, a side: less shows nothing that could be learnt
ASPECT = 1.02  # how far the shapes of image and condition may be apart, as a factor


class ImageRef(Protocol):
    """An encoded image somewhere: PNG, JPEG or WebP bytes, read when they are asked for."""

    @property
    def name(self) -> str:
        """Where it lies, for messages."""

    def read(self) -> bytes:
        """Its bytes; `OSError` where they cannot be had."""


@dataclass(frozen=True)
class File:
    """An image in a file of its own."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def read(self) -> bytes:
        return self.path.read_bytes()


@dataclass(frozen=True)
class Row:
    where: str  # file and line, for messages
    image: ImageRef
    condition: ImageRef | None  # None: a detector draws it from the image
    text: str


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why."""

    where: str
    reason: str
    row: int | None = None  # its number in the source, where it has one


class RowError(MaquetteError):
    """A row that turns out to be a fault when it is read."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.fault = BadRow(where, reason)

    def __str__(self) -> str:
        return f"{self.fault.where}: {self.fault.reason}"


@dataclass(frozen=True)
class Names:
    """What the parts of a pair are called in a source."""

    image: str
    condition: str | None  # None: there are none
    text: str | None  # None: there are none, and rows have empty ones


@dataclass(frozen=True)
class Columns:
    """What a user calls the parts of a pair; None: as is usual in that kind of source."""

    image: str | None = None
    condition: str | None = None
    text: str | None = None
    has_conditions: bool = True  # False: a detector draws them from the images
    has_texts: bool = True  # False: a detector writes them, or there are none

    def __post_init__(self) -> None:
        if self.condition and not self.has_conditions:
            raise MaquetteError(f"Conditions are either read from {self.condition!r} or drawn by a detector, not both.")
        if self.text and not self.has_texts:
            raise MaquetteError(f"Texts are either read from {self.text!r} or left out, not both.")

    def over(self, usual: Names) -> Names:
        condition = (self.condition or usual.condition) if self.has_conditions else None
        text = (self.text or usual.text) if self.has_texts else None
        return Names(self.image or usual.image, condition, text)


AS_USUAL = Columns()


class Source(Protocol):
    """The rows of a data set by number; it can be handed to another process."""

    @property
    def faults(self) -> Sequence[BadRow]:
        """What was found on opening to be no row, and has no number."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Row:
        """A row; `RowError` where it cannot be had."""


@dataclass(frozen=True)
class Example:
    """What a row holds, read: RGB, as the eye sees it."""

    image: Image.Image
    condition: Image.Image | None
    text: str


def read(row: Row) -> Example:
    """Both images of a row.

    Raises `RowError` when one is missing, broken or too small, or when the condition has another shape than the
    image, so that it cannot show the same frame.
    """
    try:
        image = _large_enough(row.image)
        condition = _large_enough(row.condition) if row.condition else None
    except MaquetteError as error:
        raise RowError(row.where, str(error)) from error
    if condition is not None:
        check_frame(row, image.size, condition.size)
    return Example(image, condition, row.text)


def read_condition(row: Row) -> Image.Image:
    """The condition alone, which its image's header says to show the same frame; else `RowError`."""
    assert row.condition is not None, "a source without conditions has none to read"
    try:
        condition = _large_enough(row.condition)
        size = size_of(row.image)
    except MaquetteError as error:
        raise RowError(row.where, str(error)) from error
    check_frame(row, size, condition.size)
    return condition


def check_frame(row: Row, image: tuple[int, int], condition: tuple[int, int]) -> None:
    """Sizes (width, height) of one shape, or `RowError`."""
    wide = image[0] * condition[1] / (image[1] * condition[0])
    if not 1 / ASPECT <= wide <= ASPECT:
        raise RowError(
            row.where,
            f"The image is {image[0]}×{image[1]} and its condition {condition[0]}×{condition[1]}: they do not "
            "show the same frame; make both of one shape.",
        )


def size_of(stored: ImageRef) -> tuple[int, int]:
    """Width and height as the eye sees them, from an image's header alone; `MaquetteError` where it has none."""
    try:
        with Image.open(io.BytesIO(stored.read())) as image:
            on_its_side = image.getexif().get(274, 1) >= 5
            return (image.height, image.width) if on_its_side else image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MaquetteError(f"{stored.name!r} has no size that can be read ({error}).") from error


def _large_enough(stored: ImageRef) -> Image.Image:
    image = open_stored(stored)
    if min(image.size) < SMALLEST:
        raise MaquetteError(
            f"{stored.name!r} is {image.width}×{image.height}; an image has {SMALLEST} pixels or more a side."
        )
    return image


def open_stored(stored: ImageRef) -> Image.Image:
    """A stored image as the eye sees it, RGB; `MaquetteError` when it is missing, no image or broken."""
    try:
        content = stored.read()
    except OSError as error:
        raise MaquetteError(f"There is no image at {stored.name!r} ({error.strerror or error}).") from error
    return read_image(io.BytesIO(content), stored.name)


def peculiarities(stored: ImageRef) -> Iterator[str]:
    """What is unusual about an image that can be read, and what is made of it."""
    name = stored.name
    with Image.open(io.BytesIO(stored.read())) as image:
        if (frames := getattr(image, "n_frames", 1)) > 1:
            yield f"{name!r} has {frames} frames; the first is taken"
        if image.mode == "CMYK":
            yield f"{name!r} is in CMYK, which has no exact RGB; save it as RGB where colours matter"
        if image.mode.startswith(("I", "F")):
            yield f"{name!r} has more than 8 bits a channel; they are scaled to 8"
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            yield f"{name!r} is transparent in places; it is put on white"
        if image.getexif().get(274, 1) != 1:
            yield f"{name!r} lies on its side; it is turned as its EXIF says"
    if isinstance(stored, File) and (not stored.path.name.isascii() or " " in stored.path.name):
        yield f"{name!r} has a name with spaces or letters that other tools stumble on; it is read as it is"
