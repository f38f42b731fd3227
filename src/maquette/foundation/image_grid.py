"""Contact sheets: images in rows, with labels and captions."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

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
