"""Scribbles: thick, simplified strokes as drawn by hand; or a drawing, cleaned."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.detectors.hed import HED
from maquette.conditions.detectors.softedge import softedge
from maquette.conditions.detectors.xdog import xdog
from maquette.conditions.drawing.morphology import Strokes, cleaned, remove_small_components
from maquette.conditions.drawing.synthesis import synthesised
from maquette.conditions.inference import resized
from maquette.conditions.spec import DetectorSpec, Options, Predict, option
from maquette.errors import MaquetteError

EDGES_AT = 128  # pixels, the short side at which edges are found: nobody would draw finer ones by hand


@dataclass(frozen=True)
class ScribbleOptions(Options):
    width: int = option(
        3, "Stroke width: four times this in pixels at a height of 512; for drawings the minimum.", 1, 15
    )
    seed: int | None = option(None, "If set, strokes are thresholded, thickened and erased at random.", 0)
    source: Literal["edges", "hed", "softedge", "xdog", "drawing"] = option(
        "edges",
        "What strokes follow: edges (Canny), hed (needs its weights), softedge or xdog; or a drawing, cleaned.",
    )

    def unfit(self) -> Iterator[str]:
        if self.source == "drawing" and self.seed is not None:
            yield f"cleaning a drawing uses no randomness: leave seed={self.seed} out"


def scribble(image: Image.Image, width: int = 3, seed: int | None = None) -> Image.Image:
    """White strokes on black, drawn along the strong contours of an image.

    Args:
        width: 1 to 15; a stroke is four times this wide, in pixels at a height of 512.
        seed: if set, the paper's synthesis (v1 §3.5): random thresholds, some strokes masked at random, strokes moved
            and thickened at random. Otherwise all strokes, unchanged.
    """
    scale = max(1.0, min(image.size) / EDGES_AT)
    small = resized(image, (max(1, round(image.width / scale)), max(1, round(image.height / scale))))
    rng = np.random.default_rng(seed)
    low = 60 if seed is None else rng.uniform(40, 110)
    grey = cv2.cvtColor(np.asarray(small), cv2.COLOR_RGB2GRAY)
    edges = cv2.Canny(cv2.GaussianBlur(grey, (0, 0), 1.2), low, 2.2 * low)
    strokes = remove_small_components(edges, 8)
    if seed is not None:
        strokes = _mask_some(strokes, rng)
        strokes = _jittered(strokes, rng)
        width = int(rng.integers(max(1, width - 1), width + 2))
    drawn = cv2.dilate(strokes, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    if scale > 1:
        drawn = cv2.threshold(cv2.resize(drawn, image.size, interpolation=cv2.INTER_CUBIC), 127, 255, 0)[1]
    return Image.fromarray(drawn).convert("RGB")


def load_scribble(weights: str | Path | None, device: str) -> Predict:
    """Scribbles from any source; HED is loaded on first use.

    Its results raise `MaquetteError` for weights with another source than "hed".
    """
    network = cache(lambda: HED.load(weights, device))

    def predict(images: list[Image.Image], options: ScribbleOptions) -> list[Image.Image]:
        if weights is not None and options.source != "hed":
            raise MaquetteError(f'scribble has weights for source="hed", not for {options.source!r}; leave one out.')
        if options.source == "edges":
            return [scribble(image, options.width, options.seed) for image in images]
        if options.source == "drawing":
            return [_rgb(cleaned(image, options.width)) for image in images]
        if options.source == "hed":
            soft = network()(images, HED.options())
        else:
            soft = [(xdog if options.source == "xdog" else softedge)(image) for image in images]
        return [_rgb(synthesised(_levels(edges), options.width, options.seed)) for edges in soft]

    return predict


def _levels(soft: Image.Image) -> NDArray[np.float32]:
    """A grey image as levels (H, W) in [0, 1]."""
    return np.asarray(np.asarray(soft.convert("L")) / 255, np.float32)


def _rgb(strokes: Strokes) -> Image.Image:
    return Image.fromarray(strokes).convert("RGB")


def _mask_some(strokes: Strokes, rng: np.random.Generator) -> Strokes:
    """Erase some round patches, up to a third of the image."""
    result = strokes.copy()
    height, width = strokes.shape
    for _ in range(rng.integers(0, 5)):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(result, centre, int(rng.uniform(0.05, 0.16) * min(height, width)), 0, -1)
    return result


def _jittered(strokes: Strokes, rng: np.random.Generator) -> Strokes:
    """Move every point by a smooth random field of about a pixel."""
    height, width = strokes.shape
    coarse = rng.normal(0, 0.8, (2, 6, 6)).astype(np.float32)
    dx, dy = (cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) for field in coarse)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = cv2.remap(strokes, x + dx, y + dy, cv2.INTER_NEAREST)
    return np.asarray(moved, np.uint8)


SCRIBBLE = DetectorSpec(
    "scribble",
    "thick simplified strokes, white on black",
    load_scribble,
    ScribbleOptions,
    weights=HED.weights,
    weights_by_option=True,
    unseeded=lambda options: options.get("source") == "drawing",
    lines=True,
)
