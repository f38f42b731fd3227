"""Scribbles: thick, simplified strokes, as a hand draws them; or a drawing cleaned to be one."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.kind import Kind, each
from maquette.conditions.options import Options, option


@dataclass(frozen=True)
class ScribbleOptions(Options):
    width: int = option(3, "Of a stroke: four times this in pixels at a height of 512.", 1, 15)
    seed: int | None = option(None, "With one, strokes are moved, thickened and wiped out by chance.", 0)


def scribble(picture: Image.Image, width: int = 3, seed: int | None = None) -> Image.Image:
    """White strokes on black, drawn along the strong contours of a picture.

    Args:
        width: of a stroke at 512 pixels' height is four times this; 1 to 15.
        seed: with one, the paper's synthesis (v1 §3.5): random thresholds, a random share of the strokes masked,
            strokes moved and thickened at random. Without, all of them, as they are.
    """
    rng = np.random.default_rng(seed)
    low = 60 if seed is None else rng.uniform(40, 110)
    scale = max(1.0, min(picture.size) / 128)
    grey = cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2GRAY)
    edges = cv2.Canny(cv2.GaussianBlur(grey, (0, 0), 1.2 * scale), low, 2.2 * low)
    strokes = _without_specks(edges, int(8 * scale))
    if seed is not None:
        strokes = _mask_some(strokes, rng)
        strokes = _shaken(strokes, rng, scale)
        width = int(rng.integers(max(1, width - 1), width + 2))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (max(1, round(width * scale)),) * 2)
    return Image.fromarray(cv2.dilate(strokes, kernel)).convert("RGB")


def _without_specks(edges: NDArray[np.uint8], least: int) -> NDArray[np.uint8]:
    """Strokes of at least so many pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(edges, connectivity=8)
    keep = stats[:count, cv2.CC_STAT_AREA] >= least
    keep[0] = False  # the paper
    return (keep[labels] * 255).astype(np.uint8)


def _mask_some(strokes: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Wipe out some round patches, up to a third of the picture."""
    result = strokes.copy()
    height, width = strokes.shape
    for _ in range(rng.integers(0, 5)):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(result, centre, int(rng.uniform(0.05, 0.16) * min(height, width)), 0, -1)
    return result


def _shaken(strokes: NDArray[np.uint8], rng: np.random.Generator, scale: float) -> NDArray[np.uint8]:
    """Move every point by a smooth random field of about a pixel at 128 pixels' height."""
    height, width = strokes.shape
    coarse = rng.normal(0, 0.8 * scale, (2, 6, 6)).astype(np.float32)
    dx, dy = (cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) for field in coarse)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = cv2.remap(strokes, x + dx, y + dy, cv2.INTER_NEAREST)
    return np.asarray(moved, np.uint8)


SCRIBBLE = Kind("scribble", "thick simplified strokes, white on black", each(scribble), ScribbleOptions)
