"""Reading images: modes, rotation and transparency are handled here alone. The result is always RGB bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from maquette.errors import MaquetteError

ORIENTATION = 274  # EXIF's tag of an image's rotation


def open_image(path: str | Path) -> Image.Image:
    """Read an image as it is displayed: rotated as its EXIF says, transparency on white, RGB.

    Raises `MaquetteError` for a file that is missing, is not an image, is broken or unreasonably large.
    """
    path = Path(path)
    if not path.is_file():
        raise MaquetteError(f"There is no image at {str(path)!r}; give the path of a PNG, JPEG or WebP file.")
    return read_image(path, str(path))


def read_image(source: Path | IO[bytes], name: str) -> Image.Image:
    """Decode an image from a file or its bytes as it is displayed; `name` is used in error messages.

    Raises `MaquetteError` for a file that is not an image, is broken or unreasonably large.
    """
    try:
        with Image.open(source) as image:
            image.load()
            return as_rgb(image)
    except UnidentifiedImageError as error:
        raise MaquetteError(f"{name!r} is not an image that can be read; give a PNG, JPEG or WebP file.") from error
    except Image.DecompressionBombError as error:
        raise MaquetteError(
            f"{name!r} unpacks to more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; make it smaller first."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise MaquetteError(f"{name!r} is broken ({error}); save it anew or give another image.") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image as RGB bytes, rotated as its EXIF says, transparency on white."""
    if type(image) is Image.Image and image.mode == "RGB" and not image.info and not image.getexif():
        return image
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        image = _to_bytes(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _to_bytes(image: Image.Image) -> Image.Image:
    """Deep greyscale as bytes: 16 bits from 0 to 65535, others by the smallest common range that holds the levels."""
    levels = np.nan_to_num(np.asarray(image, np.float32))
    ranges = {"F": (1.0, 255.0, 65535.0), "I": (255.0, 65535.0)}.get(image.mode, (65535.0,))
    brightest = next((top for top in ranges if levels.max() <= top), float(levels.max()))
    return Image.fromarray((np.clip(levels / brightest, 0, 1) * 255).astype(np.uint8))


def fit(image: Image.Image, size: tuple[int, int], method: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """RGB, scaled to cover `size` (width, height), then centre-cropped to it."""
    image = as_rgb(image)
    return image if image.size == size else ImageOps.fit(image, size, method)


PAPER, INK = (250, 249, 246), (40, 40, 44)


def image_grid(
    rows: Sequence[Sequence[Image.Image]],
    labels: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    tile: int | None = None,
    gap: int = 2,
) -> Image.Image:
    """Images in rows of any lengths on one sheet, RGB.

    Args:
        labels: a short label to the left of each row.
        captions: up to two lines of text under each image.
        tile: side of an image on the sheet, in pixels; by default the first image's width.
        gap: between images, in pixels.
    """
    tile = tile or rows[0][0].width
    font = ImageFont.load_default(max(10, tile // 14))
    line = 1.25 * max(10, tile // 14)
    left = int(max((font.getlength(label) for label in labels), default=-10)) + 12 if labels else gap
    below = int(line * 2 + 6) if captions else gap
    width = left + max(len(row) for row in rows) * (tile + gap)
    canvas = Image.new("RGB", (width, gap + len(rows) * (tile + below)), PAPER)
    painter = ImageDraw.Draw(canvas)
    for r, row in enumerate(rows):
        top = gap + r * (tile + below)
        if labels:
            painter.text((6, top + tile / 2), labels[r], INK, font, anchor="lm")
        for c, image in enumerate(row):
            x = left + c * (tile + gap)
            canvas.paste(image.resize((tile, tile), Image.Resampling.LANCZOS), (x, top))
            if captions and c < len(captions[r]):
                painter.multiline_text((x + 2, top + tile + 3), _wrapped(captions[r][c], font, tile - 4), INK, font)
    return canvas


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Wrap to at most two lines of `width` pixels; longer text ends in an ellipsis."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        elif len(lines) < 2:
            lines.append(word)
        else:
            lines[-1] = lines[-1].rstrip(",.") + " …"
            break
    return "\n".join(lines)
