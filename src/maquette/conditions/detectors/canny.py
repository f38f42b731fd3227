"""Canny edges."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from maquette.conditions.options import Options, option
from maquette.conditions.spec import DetectorSpec, each

DIORAMA = {"low": 50.0, "high": 120.0}
"""Thresholds at which the diorama's edges are drawn and scored: its nights are dark."""

RANDOM_LOW, RANDOM_RATIO = (30, 130), (1.5, 3)  # of the lower threshold; of the upper one to it
RANDOM_THRESHOLDS = (
    f"low {RANDOM_LOW[0]} to {RANDOM_LOW[1]}, high {RANDOM_RATIO[0]:g} to {RANDOM_RATIO[1]:g} times that"
)
"""Thresholds as trainings draw them (paper v1 §3.5, which gives no numbers), in words."""


@dataclass(frozen=True)
class CannyOptions(Options):
    low: float = option(100, "Gradient below which nothing is an edge.", 0, 2040)
    high: float = option(200, "Gradient from which an edge is one by itself, not only along another.", 0, 2040)
    seed: int | None = option(
        None, f"With one, thresholds by chance: {RANDOM_THRESHOLDS}; low and high have no effect.", 0
    )

    def unfit(self) -> Iterator[str]:
        yield from unordered(self.low, self.high)


def unordered(low: float, high: float) -> Iterator[str]:
    """What is wrong with two thresholds together."""
    if low > high:
        yield f"the thresholds keep low ≤ high, not low={low} and high={high}"


def canny(image: Image.Image, low: float = 100, high: float = 200) -> Image.Image:
    """White edges on black (OpenCV's Canny, 3×3 Sobel, L1 norm).

    Args:
        low, high: hysteresis thresholds on the gradient, 0 ≤ low ≤ high ≤ 2040.
    """
    return _edges(image, low, high).convert("RGB")


def random_thresholds(rng: np.random.Generator) -> tuple[float, float]:
    """Low and high, as `RANDOM_THRESHOLDS` says."""
    low = rng.uniform(*RANDOM_LOW)
    return low, low * rng.uniform(*RANDOM_RATIO)


def _edges(image: Image.Image, low: float, high: float) -> Image.Image:
    grey = cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY)
    return Image.fromarray(cv2.Canny(grey, low, high))


def _drawn(image: Image.Image, low: float, high: float, seed: int | None) -> Image.Image:
    return _edges(image, *((low, high) if seed is None else random_thresholds(np.random.default_rng(seed))))


CANNY = DetectorSpec("canny", "edges, white on black", each(_drawn), CannyOptions)
