"""Read a row's image once and frame it: its pixels for the detector, its bytes for the shard."""

import io
from dataclasses import dataclass, replace

from PIL import Image

from maquette.annotation.finished import digest_of
from maquette.data.crop import ResizeCrop
from maquette.data.sources.jsonl import BadRow, ImageRef, RowError, Source, read
from maquette.foundation.images import fit

SIGNATURES = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"RIFF": "webp"}
"""The first bytes of the formats that all readers of shards support."""


@dataclass(frozen=True, eq=False)
class Decoded:
    number: int  # of the row in its source
    where: str
    content: bytes  # as stored; encoded as PNG if it was framed, or if shards do not support the format
    ending: str  # jpg, png or webp
    image: Image.Image  # RGB, upright, framed
    text: str
    size: tuple[int, int]  # (width, height) before it was framed
    digest: str  # of the stored image and its text


@dataclass
class _CachedImage:
    """A stored image that keeps its bytes once they are read."""

    stored: ImageRef
    content: bytes = b""

    @property
    def name(self) -> str:
        return self.stored.name

    def mark(self) -> bytes | None:
        return self.stored.mark()

    def read(self) -> bytes:
        self.content = self.stored.read()
        return self.content


def decode(source: Source, number: int, framing: ResizeCrop | None = None) -> Decoded | BadRow:
    """A row without its condition, or the reason that it cannot be used.

    Args:
        framing: the image's frame; None keeps its size.
    """
    where = f"row {number}"
    try:
        row = source[number]
        where, cached = row.where, _CachedImage(row.image)
        image = read(replace(row, image=cached, condition=None)).image
    except RowError as error:
        return replace(error.fault, row=number)
    except Exception as error:  # broken images make decoders fail in more ways than can be listed
        return BadRow(where, f"cannot be read ({type(error).__name__}: {error})", number)
    image.info = {}  # upright and RGB: the detector need not check again
    size = image.size
    framed = image if framing is None else fit(image, framing.shape(size))
    stored = cached.content if framed.size == size else b""
    ending = next((name for start, name in SIGNATURES.items() if stored.startswith(start)), None)
    content = stored if ending else _png(framed)
    digest = digest_of(cached.content, row.text)
    return Decoded(number, where, content, ending or "png", framed, row.text, size, digest)


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
