"""Between an editor's value (background, layers, composite) and the pictures, maps and masks of a request."""

from math import gcd
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageChops

from maquette.conditions.requirements import drawn_by, kind_of

Editor = dict[str, Any] | None
Source = Literal["drawing", "picture", "map"]
SIDE = 512  # of the canvas in pixels, and at least that of what is placed on it
OPAQUE = 128


def painted(editor: Editor) -> Image.Image | None:
    """The mask that is painted on a picture, L: white times opacity; None without a stroke."""
    found = None
    for layer in (editor or {}).get("layers") or []:
        alpha = layer.convert("RGBA").getchannel("A")
        found = alpha if found is None else ImageChops.lighter(found, alpha)
    return found if found is not None and found.getbbox() else None


def background(editor: Editor, size: tuple[int, int], step: int) -> Image.Image | None:
    """The picture beneath, RGB, at the size that it had before `enlarged`; None for an empty canvas.

    Args:
        size, step: as for `reduced`.
    """
    image = (editor or {}).get("background")
    if image is None:
        return None
    image = image.convert("RGB")
    return None if image.getextrema() == ((255, 255),) * 3 else reduced(image, size, step)


def drawn_map(editor: Editor, condition: str, base: str) -> Image.Image | None:
    """The strokes as a condition map, RGB on black: white lines for conditions of lines, else in their colours."""
    mask = painted(editor)
    if mask is None or editor is None:
        return None
    if kind_of(drawn_by(condition, base)) == "lines":
        return mask.point(_whole).convert("RGB")
    canvas = Image.new("RGB", mask.size)
    for layer in editor["layers"]:
        colours = layer.convert("RGBA")
        canvas.paste(colours.convert("RGB"), mask=colours.getchannel("A").point(_whole))
    return canvas


def enlarged(image: Image.Image) -> Image.Image:
    """A small picture by a whole factor, each pixel a square, so that one can draw on it and sees it as it is."""
    factor = max(1, SIDE // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def reduced(image: Image.Image, size: tuple[int, int], step: int) -> Image.Image:
    """The picture that `enlarged` was given; `image` itself if it is none that was enlarged.

    Args:
        size: (width, height) that it probably had.
        step: its sides are multiples of this, in pixels, where it had another; the smallest that it may have had is it.
    """
    if image.size == size:
        return image
    shared = gcd(*image.size)
    divided = [
        (image.width // factor, image.height // factor) for factor in range(shared, 1, -1) if shared % factor == 0
    ]
    for sides in (size, *(sides for sides in divided if sides[0] % step == 0 == sides[1] % step)):
        if enlarged(Image.new("1", sides)).size == image.size:
            small = image.resize(sides, Image.Resampling.NEAREST)
            if np.array_equal(np.asarray(enlarged(small)), np.asarray(image)):
                return small
    return image


def looks_like_map(image: Image.Image, condition: str) -> bool:
    """Whether a picture may be a map of a condition, by what its maps have in common.

    Maps of edges and scribbles are black and white, those of depth grey, those of poses mostly black, those of normals
    unit vectors, zero or black, and those of regions have few colours; of other conditions all pictures may be maps.
    """
    pixels = np.asarray(image.convert("RGB")).astype(np.int16)
    grey = np.ptp(pixels, axis=-1) <= 8
    if condition in ("canny", "scribble"):
        return bool((grey & ((pixels[..., 0] <= 32) | (pixels[..., 0] >= 223))).mean() > 0.9)
    if condition == "depth":
        return bool(grey.mean() > 0.98)
    if condition == "pose":
        return bool((pixels.max(-1) <= 16).mean() > 0.5)
    if condition == "normal":
        length = np.linalg.norm(pixels / 127.5 - 1, axis=-1)
        return bool(((abs(length - 1) < 0.15) | (length < 0.05) | (pixels.max(-1) <= 16)).mean() > 0.8)
    if condition == "segmentation":
        return len(np.unique(pixels.reshape(-1, 3), axis=0)) <= 256
    return True


def editor_of(image: Image.Image, mask: Image.Image | None = None) -> dict[str, Any]:
    """An editor's value with a picture beneath, and a mask (L) painted on it in white."""
    shown = enlarged(image.convert("RGB"))
    if mask is None:
        return {"background": shown, "layers": [], "composite": shown}
    paint = Image.new("RGBA", shown.size, (255, 255, 255, 0))
    paint.putalpha(mask.resize(shown.size, Image.Resampling.NEAREST))
    return {"background": shown, "layers": [paint], "composite": Image.alpha_composite(shown.convert("RGBA"), paint)}


def _whole(alpha: int) -> int:
    return 255 * (alpha >= OPAQUE)
