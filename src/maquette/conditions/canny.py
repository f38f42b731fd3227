"""Canny edges."""

import cv2
import numpy as np
from PIL import Image

from maquette.errors import MaquetteError

DIORAMA = {"low": 50.0, "high": 120.0}
"""Thresholds at which the diorama's edges are drawn and scored: its nights are dark."""


def canny(picture: Image.Image, low: float = 100, high: float = 200) -> Image.Image:
    """White edges on black (OpenCV's Canny, 3×3 Sobel, L1 norm).

    Args:
        low, high: hysteresis thresholds on the gradient, 0 ≤ low ≤ high ≤ 2040.
    """
    if not 0 <= low <= high <= 2040:
        raise MaquetteError(f"Canny's thresholds keep 0 ≤ low ≤ high ≤ 2040, not low={low} and high={high}.")
    grey = cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2GRAY)
    return Image.fromarray(cv2.Canny(grey, low, high)).convert("RGB")
