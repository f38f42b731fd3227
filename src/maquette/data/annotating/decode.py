"""A row's picture read once: its pixels for a detector, its bytes for the shard."""

import io
from dataclasses import dataclass, replace

from PIL import Image

from maquette.data.rows import Fault, RowError, Source, Stored, read

SIGNATURES = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"RIFF": "webp"}
"""What files begin with that every reader of shards knows."""


@dataclass(frozen=True, eq=False)
class Decoded:
    number: int  # of the row in its source
    where: str
    content: bytes  # as it was stored; of a format that shards do not have, a PNG of its pixels
    ending: str  # jpg, png or webp
    picture: Image.Image  # RGB, as the eye sees it
    text: str


@dataclass
class _Kept:
    """A stored picture whose bytes are kept when they are read."""

    stored: Stored
    content: bytes = b""

    @property
    def name(self) -> str:
        return self.stored.name

    def read(self) -> bytes:
        self.content = self.stored.read()
        return self.content


def decode(source: Source, number: int) -> Decoded | Fault:
    """A row without its condition, or why it cannot be used."""
    where = f"row {number}"
    try:
        row = source[number]
        where, kept = row.where, _Kept(row.picture)
        picture = read(replace(row, picture=kept, condition=None)).picture
    except RowError as error:
        return replace(error.fault, row=number)
    except Exception as error:  # pictures of strangers break decoders in ways that no list is complete of
        return Fault(where, f"cannot be read ({type(error).__name__}: {error})", number)
    picture.info = {}  # it is turned and RGB, and no detector need look again
    ending = next((name for start, name in SIGNATURES.items() if kept.content.startswith(start)), None)
    return Decoded(number, where, kept.content if ending else _png(picture), ending or "png", picture, row.text)


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()
