"""Pictures that come with a request: known by their header until they are used. This module does not import torch."""

import base64
import binascii
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image, PngImagePlugin

from maquette.errors import MaquetteError
from maquette.foundation.images import as_rgb, read_image
from maquette.foundation.reading.pictures import opened_picture
from maquette.sampling.metadata import KEY

Resolve = Callable[[str], bytes]
"""The content of a file of the client's own session, by its name. Raises `MaquetteError` for any other."""


@dataclass(frozen=True)
class Picture:
    """A picture as it came: the bytes of a file, or an image in memory."""

    content: bytes | Image.Image
    name: str = "the picture"  # in messages

    @staticmethod
    def read(value: Any, most: int, resolve: Resolve | None = None, name: str = "the picture") -> "Picture":
        """From a PIL image, the bytes of a file, its text in base64 (or a data: URL), or {"file": name}.

        Args:
            most: bytes that it may have.
            resolve: finds the files of the client's session.

        Raises `MaquetteError` for anything else, and for more bytes, before they are decoded.
        """
        if isinstance(value, Picture | Image.Image):
            return value if isinstance(value, Picture) else Picture(value, name)
        if isinstance(value, dict) and set(value) == {"file"} and isinstance(value["file"], str) and resolve:
            value = resolve(value["file"])
        if isinstance(value, str):
            value = _from_base64(value, most, name)
        if not isinstance(value, bytes):
            raise MaquetteError(
                f"{_capital(name)} is a PNG, JPEG or WebP in base64, or the file of an upload, not "
                f"{type(value).__name__}."
            )
        if len(value) > most:
            raise MaquetteError(f"{_capital(name)} has {len(value):,} bytes; {most:,} are the most here.")
        return Picture(value, name)

    @property
    def bytes(self) -> int:
        """What it takes in memory as it is."""
        if isinstance(self.content, Image.Image):
            return self.content.width * self.content.height * len(self.content.getbands())
        return len(self.content)

    def size(self, most: int) -> tuple[int, int]:
        """(width, height) in pixels, by its header.

        Args:
            most: pixels that it may have.

        Raises `MaquetteError` for what is no image, and for more pixels.
        """
        if isinstance(self.content, Image.Image):
            size = self.content.size
        else:
            with opened_picture(io.BytesIO(self.content), self.name) as image:
                size = image.size
        if not 0 < size[0] * size[1] <= most:
            raise MaquetteError(
                f"{_capital(self.name)} has {size[0]}×{size[1]} pixels; {most:,} are the most here: make it smaller."
            )
        return size

    def image(self, convert: Callable[[Image.Image], Image.Image] = as_rgb) -> Image.Image:
        """The picture as it is displayed, RGB, or as `convert` makes it. Raises `MaquetteError` if it is broken."""
        if isinstance(self.content, Image.Image):
            return convert(self.content)
        return read_image(io.BytesIO(self.content), self.name, convert)

    def file(self) -> io.BytesIO:
        """The picture as a file: as it came, or as a PNG."""
        if isinstance(self.content, bytes):
            return io.BytesIO(self.content)
        return io.BytesIO(png_of(self.content))


def png_of(image: Image.Image) -> bytes:
    """The PNG of an image, with the record that a generated one carries."""
    stream, information = io.BytesIO(), PngImagePlugin.PngInfo()
    if KEY in image.info:
        information.add_text(KEY, image.info[KEY])
    image.save(stream, "PNG", pnginfo=information)
    return stream.getvalue()


def _from_base64(text: str, most: int, name: str) -> bytes:
    head, comma, body = text.partition(",")
    if text.startswith("data:"):
        if not comma or not head.endswith(";base64"):
            raise MaquetteError(f"{_capital(name)} is a data: URL that is not in base64.")
        text = body
    if len(text) > most * 4 // 3 + 4:
        raise MaquetteError(f"{_capital(name)} has more than {most:,} bytes, which are the most here.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MaquetteError(
            f"{_capital(name)} is a PNG, JPEG or WebP in base64; this text is not ({error})."
        ) from error


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
