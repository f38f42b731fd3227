"""One row of a data set of pictures: where a pair and its words lie, and how they are read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from maquette.errors import MaquetteError
from maquette.foundation.images import open_picture

SMALLEST = 32  # pixels, a side: less shows nothing that could be learnt
ASPECT = 1.02  # how far the shapes of picture and condition may be apart, as a factor


@dataclass(frozen=True)
class Row:
    where: str  # file and line, for messages
    picture: Path
    condition: Path | None  # None: a detector draws it from the picture
    text: str


@dataclass(frozen=True)
class Example:
    """What a row holds, read: RGB, as the eye sees it."""

    picture: Image.Image
    condition: Image.Image | None
    text: str


def read(row: Row) -> Example:
    """Both pictures of a row.

    Raises `MaquetteError`, with the row's place, when one is missing, broken or too small, or when the condition has
    another shape than the picture, so that it cannot show the same frame.
    """
    try:
        picture = _large_enough(row.picture)
        condition = _large_enough(row.condition) if row.condition else None
    except MaquetteError as error:
        raise MaquetteError(f"{row.where}: {error}") from error
    if condition is not None:
        wide = picture.width * condition.height / (picture.height * condition.width)
        if not 1 / ASPECT <= wide <= ASPECT:
            raise MaquetteError(
                f"{row.where}: The picture is {picture.width}×{picture.height} and its condition "
                f"{condition.width}×{condition.height}: they do not show the same frame; make both of one shape."
            )
    return Example(picture, condition, row.text)


def _large_enough(path: Path) -> Image.Image:
    picture = open_picture(path)
    if min(picture.size) < SMALLEST:
        raise MaquetteError(
            f"{str(path)!r} is {picture.width}×{picture.height}; a picture has {SMALLEST} pixels or more a side."
        )
    return picture


def peculiarities(path: Path) -> Iterator[str]:
    """What is unusual about a picture that can be read, and what is made of it."""
    with Image.open(path) as picture:
        if (frames := getattr(picture, "n_frames", 1)) > 1:
            yield f"{str(path)!r} has {frames} frames; the first is taken"
        if picture.mode == "CMYK":
            yield f"{str(path)!r} is in CMYK, which has no exact RGB; save it as RGB where colours matter"
        if picture.mode.startswith(("I", "F")):
            yield f"{str(path)!r} has more than 8 bits a channel; they are scaled to 8"
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            yield f"{str(path)!r} is transparent in places; it is put on white"
        if picture.getexif().get(274, 1) != 1:
            yield f"{str(path)!r} lies on its side; it is turned as its EXIF says"
    if not path.name.isascii() or " " in path.name:
        yield f"{str(path)!r} has a name with spaces or letters that other tools stumble on; it is read as it is"
