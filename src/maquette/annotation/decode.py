"""A row's image read once: its pixels for a detector, its bytes for the shard."""

import io
from dataclasses import dataclass, replace

from PIL import Image

from maquette.data.sources.jsonl import BadRow, ImageRef, RowError, Source, read

SIGNATURES = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"RIFF": "webp"}
"""What files begin with that every reader of shards knows."""


@dataclass(frozen=True, eq=False)
class Decoded:
    number: int  # of the row in its source
    where: str
    content: bytes  # as it was stored; of a format that shards do not have, a PNG of its pixels
    ending: str  # jpg, png or webp
    image: Image.Image  # RGB, as the eye sees it
    text: str


@dataclass
class _Kept:
    """A stored image whose bytes are kept when they are read."""

    stored: ImageRef
    content: bytes = b""

    @property
    def name(self) -> str:
        return self.stored.name

    def read(self) -> bytes:
        self.content = self.stored.read()
        return self.content


def decode(source: Source, number: int) -> Decoded | BadRow:
    """A row without its condition, or why it cannot be used."""
    where = f"row {number}"
    try:
        row = source[number]
        where, kept = row.where, _Kept(row.image)
        image = read(replace(row, image=kept, condition=None)).image
    except RowError as error:
        return replace(error.fault, row=number)
    except Exception as error:  # images of strangers break decoders in ways that no list is complete of
        return BadRow(where, f"cannot be read ({type(error).__name__}: {error})", number)
    image.info = {}  # it is turned and RGB, and no detector need look again
    ending = next((name for start, name in SIGNATURES.items() if kept.content.startswith(start)), None)
    return Decoded(number, where, kept.content if ending else _png(image), ending or "png", image, row.text)


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
