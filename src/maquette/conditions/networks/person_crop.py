"""What a network sees of one person: the box around them, widened, in the network's shape."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

MARGIN = 1.25  # times the box, in both ViTPose and DWPose


class Window(NamedTuple):
    """A rectangle of an image, in its pixels; it may reach beyond the image, where all is black."""

    left: float
    top: float
    width: float
    height: float

    @classmethod
    def around(cls, box: NDArray[np.floating], size: tuple[int, int]) -> "Window":
        """Around a box (left, top, right, bottom), in the shape of a network's input (width, height)."""
        left, top, right, bottom = (float(side) for side in box)
        width, height = max(right - left, 1.0), max(bottom - top, 1.0)
        shape = size[0] / size[1]
        width, height = MARGIN * max(width, height * shape), MARGIN * max(height, width / shape)
        return cls((left + right - width) / 2, (top + bottom - height) / 2, width, height)

    def cut(self, pixels: NDArray[np.uint8], size: tuple[int, int], span: tuple[int, int]) -> NDArray[np.uint8]:
        """What it shows of an image (H, W, 3), at `size` (width, height).

        Args:
            span: how many pixels its sides are long: `size`, or one less where they run from the middle of the first
                pixel to that of the last (the unbiased ones of Huang et al. 2020, "The Devil is in the Details").
        """
        across, down = span[0] / self.width, span[1] / self.height
        matrix = np.array([[across, 0, -self.left * across], [0, down, -self.top * down]])
        return np.asarray(cv2.warpAffine(pixels, matrix, size, flags=cv2.INTER_LINEAR))

    def placed(self, shares: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points (..., 2), given as shares of its sides, in pixels of the image."""
        return np.asarray(shares, np.float64) * (self.width, self.height) + (self.left, self.top)
