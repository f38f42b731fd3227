"""Open pictures, of a few formats: Pillow itself would try others, and start Ghostscript for one of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from maquette.errors import MaquetteError
from maquette.foundation.reading.files import open_regular

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What a file holds, whatever its name says. JPEG includes the MPO of telephones, PPM also PGM and PBM."""
MOST_BYTES = 2**30  # of a file


@contextmanager
def opened_picture(source: Path | IO[bytes], name: str) -> Iterator[Image.Image]:
    """An image whose header has been read; it is decoded when its pixels are used, inside the block.

    Args:
        source: a file, or an open one.
        name: in error messages.

    Raises `MaquetteError` for a file that is missing, is no image of these formats, is broken or unreasonably large,
    also where that shows inside the block.
    """
    if not isinstance(source, Path):
        with _decoding(name), Image.open(source, formats=FORMATS) as image:
            yield image
        return
    try:
        file = open_regular(source)
    except OSError as error:
        raise MaquetteError(
            f"There is no image at {name!r} ({error.strerror or error}); give the path of a PNG, JPEG or WebP file."
        ) from error
    with file, _decoding(name), Image.open(file, formats=FORMATS) as image:
        yield image


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Raises `MaquetteError` for any error of a decoder inside: broken images fail in more ways than can be listed."""
    try:
        yield
    except MaquetteError:
        raise
    except UnidentifiedImageError as error:
        raise MaquetteError(f"{name!r} is not an image that can be read; give a PNG, JPEG or WebP file.") from error
    except Image.DecompressionBombError as error:
        raise MaquetteError(
            f"{name!r} unpacks to more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; make it smaller first."
        ) from error
    except MemoryError as error:
        raise MaquetteError(f"{name!r} takes more memory to decode than there is; make it smaller first.") from error
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise MaquetteError(f"{name!r} is broken ({reason}); save it anew or give another image.") from error
