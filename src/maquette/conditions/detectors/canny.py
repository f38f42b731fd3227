"""Canny edges."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from maquette.conditions.spec import DetectorSpec, Options, option, per_image

DIORAMA = {"low": 50.0, "high": 120.0}
"""Thresholds for the diorama, for its maps and for scoring: its night scenes are dark."""

RANDOM_LOW, RANDOM_RATIO = (30, 130), (1.5, 3)  # ranges of the low threshold and of high / low
RANDOM_THRESHOLDS = (
    f"low {RANDOM_LOW[0]} to {RANDOM_LOW[1]}, high {RANDOM_RATIO[0]:g} to {RANDOM_RATIO[1]:g} times that"
)
"""The ranges in words, as training samples them (paper v1 §3.5, which gives no numbers)."""


@dataclass(frozen=True)
class CannyOptions(Options):
    low: float = option(100, "Gradient below which no pixel is an edge.", 0, 2040)
    high: float = option(
        200, "Gradient from which a pixel is an edge by itself; between the two, only if connected to one.", 0, 2040
    )
    seed: int | None = option(None, f"If set, random thresholds: {RANDOM_THRESHOLDS}; low and high have no effect.", 0)

    def unfit(self) -> Iterator[str]:
        yield from unordered(self.low, self.high)


def unordered(low: float, high: float) -> Iterator[str]:
    """The problem with a pair of thresholds, if any."""
    if low > high:
        yield f"the thresholds must satisfy low ≤ high, not low={low} and high={high}"


def canny(image: Image.Image, low: float = 100, high: float = 200) -> Image.Image:
    """White edges on black (OpenCV's Canny, 3×3 Sobel, L1 norm), of the image's size.

    Args:
        low, high: hysteresis thresholds on the gradient, 0 ≤ low ≤ high ≤ 2040.
    """
    return _edges(image, low, high).convert("RGB")


def random_thresholds(rng: np.random.Generator) -> tuple[float, float]:
    """Low and high, sampled from the ranges in `RANDOM_THRESHOLDS`."""
    low = rng.uniform(*RANDOM_LOW)
    return low, low * rng.uniform(*RANDOM_RATIO)


def _edges(image: Image.Image, low: float, high: float) -> Image.Image:
    grey = cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY)
    return Image.fromarray(cv2.Canny(grey, low, high))


def _detect(image: Image.Image, low: float, high: float, seed: int | None) -> Image.Image:
    return _edges(image, *((low, high) if seed is None else random_thresholds(np.random.default_rng(seed))))


CANNY = DetectorSpec(
    "canny",
    "edges, white on black",
    per_image(_detect),
    CannyOptions,
    lines=True,
    unseeded=lambda options: "low" in options or "high" in options,
)
