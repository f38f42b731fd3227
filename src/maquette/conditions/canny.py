"""Canny edges."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from maquette.conditions.kind import Kind, each
from maquette.conditions.options import Options, option

DIORAMA = {"low": 50.0, "high": 120.0}
"""Thresholds at which the diorama's edges are drawn and scored: its nights are dark."""


@dataclass(frozen=True)
class CannyOptions(Options):
    low: float = option(100, "Gradient below which nothing is an edge.", 0, 2040)
    high: float = option(200, "Gradient from which an edge is one by itself, not only along another.", 0, 2040)

    def unfit(self) -> Iterator[str]:
        if self.low > self.high:
            yield f"the thresholds keep low ≤ high, not low={self.low} and high={self.high}"


def canny(picture: Image.Image, low: float = 100, high: float = 200) -> Image.Image:
    """White edges on black (OpenCV's Canny, 3×3 Sobel, L1 norm).

    Args:
        low, high: hysteresis thresholds on the gradient, 0 ≤ low ≤ high ≤ 2040.
    """
    grey = cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2GRAY)
    return Image.fromarray(cv2.Canny(grey, low, high)).convert("RGB")


CANNY = Kind("canny", "edges, white on black", each(canny), CannyOptions)
