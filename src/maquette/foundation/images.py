"""Pictures in: the one place that knows modes, rotation and transparency. All that is read is RGB bytes."""

from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from maquette.errors import MaquetteError

ORIENTATION = 274  # EXIF's tag for how a picture is turned


def open_picture(path: str | Path) -> Image.Image:
    """Read a picture as the eye sees it: rotated as its EXIF says, transparency on white, RGB.

    Raises `MaquetteError` when the file is missing, is no picture, is broken or unreasonably large.
    """
    path = Path(path)
    if not path.is_file():
        raise MaquetteError(f"There is no picture at {str(path)!r}; give the path of a PNG, JPEG or WebP file.")
    return read_picture(path, str(path))


def read_picture(source: Path | IO[bytes], name: str) -> Image.Image:
    """Decode a picture from a file or its bytes as the eye sees it; `name` is what errors call it."""
    try:
        with Image.open(source) as picture:
            picture.load()
            return as_rgb(picture)
    except UnidentifiedImageError as error:
        raise MaquetteError(f"{name!r} is not a picture that can be read; give a PNG, JPEG or WebP file.") from error
    except Image.DecompressionBombError as error:
        raise MaquetteError(
            f"{name!r} unpacks to more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; make it smaller first."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise MaquetteError(f"{name!r} is broken ({error}); save it anew or give another picture.") from error


def as_rgb(picture: Image.Image) -> Image.Image:
    """Any PIL picture as RGB bytes."""
    if type(picture) is Image.Image and picture.mode == "RGB" and not picture.info and not picture.getexif():
        return picture
    if picture.getexif().get(ORIENTATION, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        picture = _to_bytes(picture)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _to_bytes(picture: Image.Image) -> Image.Image:
    """Levels of more than a byte as grey bytes: 16 bits from 0 to 65535, others by the smallest usual range."""
    levels = np.nan_to_num(np.asarray(picture, np.float32))
    ranges = {"F": (1.0, 255.0, 65535.0), "I": (255.0, 65535.0)}.get(picture.mode, (65535.0,))
    brightest = next((top for top in ranges if levels.max() <= top), float(levels.max()))
    return Image.fromarray((np.clip(levels / brightest, 0, 1) * 255).astype(np.uint8))


def fit(
    picture: Image.Image, size: tuple[int, int], method: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    """RGB, scaled so that `size` (width, height) is covered; what stands over is cut, evenly at both sides."""
    picture = as_rgb(picture)
    return picture if picture.size == size else ImageOps.fit(picture, size, method)
