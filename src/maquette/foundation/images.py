"""Reading images: modes, rotation and transparency are handled here alone. The result is always RGB bytes."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from maquette.foundation.reading.pictures import opened_picture

ORIENTATION = 274  # EXIF's tag of an image's rotation


def open_image(path: str | Path, convert: Callable[[Image.Image], Image.Image] | None = None) -> Image.Image:
    """Read an image as it is displayed: rotated as its EXIF says, transparency on white, RGB.

    Args:
        convert: as for `read_image`, such as `as_mask`.

    Raises `MaquetteError` for a file that is missing, is not an image, is broken or unreasonably large.
    """
    return read_image(Path(path), str(path), convert)


def read_image(
    source: Path | IO[bytes], name: str, convert: Callable[[Image.Image], Image.Image] | None = None
) -> Image.Image:
    """Decode an image from a file or its bytes as it is displayed; `name` is used in error messages.

    Args:
        convert: makes the result of the image in its stored mode; by default `as_rgb`.

    Raises `MaquetteError` for a file that is missing, is not an image, is broken or unreasonably large.
    """
    with opened_picture(source, name) as image:
        image.load()
        return (convert or as_rgb)(image)


def as_mask(image: Image.Image) -> Image.Image:
    """Any PIL image as a mask, RGB bytes, rotated as its EXIF says: of one with transparency white times opacity.

    So white painted on nothing is white where it was painted, and nothing is black.
    """
    return as_rgb(image, "black")


def as_rgb(image: Image.Image, behind: str = "white") -> Image.Image:
    """Any PIL image as RGB bytes, rotated as its EXIF says, what is transparent on the colour `behind` it."""
    if type(image) is Image.Image and image.mode == "RGB" and not image.info and not image.getexif():
        return image
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        image = _to_bytes(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, behind), image)
    return image.convert("RGB")


def _to_bytes(image: Image.Image) -> Image.Image:
    """Deep greyscale as bytes: 16 bits from 0 to 65535, others by the smallest common range that holds the levels."""
    levels = np.nan_to_num(np.asarray(image, np.float32))
    ranges = {"F": (1.0, 255.0, 65535.0), "I": (255.0, 65535.0)}.get(image.mode, (65535.0,))
    brightest = next((top for top in ranges if levels.max() <= top), float(levels.max()))
    return Image.fromarray((np.clip(levels / brightest, 0, 1) * 255).astype(np.uint8))


MapKind = Literal["smooth", "lines", "classes"]
"""How an image may be resized: as photographs are; as thin lines, white or black only; or as colours of classes."""

Order = Literal["frame, then detect", "detect, then resize"]
"""Whether condition maps are detected in images of the frame's size, or at the images' own size and then resized."""


def fit(image: Image.Image, size: tuple[int, int], kind: MapKind = "smooth", place: float = 0.5) -> Image.Image:
    """RGB, scaled to cover `size` (width, height), then cropped to it; an image of that size is unchanged.

    Args:
        kind: "smooth" resizes by Lanczos; "classes" by the nearest pixel, which mixes no colours; "lines" keeps thin
            lines whole and white on black (see `_fit_lines`), where an average would turn them grey.
        place: where it is cropped, from 0 (left or top) to 1.
    """
    image = as_rgb(image)
    if image.size == size:
        return image
    if kind == "lines":
        return _fit_lines(image, size, place)
    method = Image.Resampling.NEAREST if kind == "classes" else Image.Resampling.LANCZOS
    return ImageOps.fit(image, size, method, centering=(place, place))


def _fit_lines(image: Image.Image, size: tuple[int, int], place: float) -> Image.Image:
    """Lines resized so that connected ones stay connected, and about as thin: black and white only.

    A line one pixel wide that passes straight through one of the new pixels, which covers s × s old ones, fills 1 / s
    of it. A new pixel is on the line from half of that: so every line leaves its mark, and a corner cut by it does not.
    Enlarged lines are smoothed, then cut at half. Dark lines on light stay dark: the rarer colour is the line.
    """
    white = np.asarray(image).max(axis=2) >= 128
    inverted = bool(white.mean() > 0.5)
    drawn = Image.fromarray((white ^ inverted).astype(np.float32))
    scale = min(image.width / size[0], image.height / size[1])
    method = Image.Resampling.BOX if scale >= 1 else Image.Resampling.BICUBIC
    filled = np.asarray(ImageOps.fit(drawn, size, method, centering=(place, place)))
    lines = filled > 0.5 / math.ceil(max(scale, 1)) - 1e-6  # rounded up: no pixel covers more old ones a side
    return Image.fromarray(((lines ^ inverted) * 255).astype(np.uint8)).convert("RGB")


PAPER, INK = (250, 249, 246), (40, 40, 44)


def image_grid(
    rows: Sequence[Sequence[Image.Image]],
    labels: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    tile: int | None = None,
    gap: int = 2,
) -> Image.Image:
    """Images in rows of any lengths on one sheet, RGB; those that are not square get margins.

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
            canvas.paste(ImageOps.pad(image, (tile, tile), Image.Resampling.LANCZOS, PAPER), (x, top))
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
            while font.getlength(f"{lines[-1]} …") > width and " " in lines[-1]:
                lines[-1] = lines[-1].rpartition(" ")[0]
            lines[-1] = lines[-1].rstrip(",.") + " …"
            break
    return "\n".join(lines)
