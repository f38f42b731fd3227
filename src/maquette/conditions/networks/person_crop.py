"""Crops of one person: the box around them, widened, in the aspect ratio of a network's input."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

MARGIN = 1.25  # times the box, for both ViTPose and DWPose


class Window(NamedTuple):
    """A rectangle in pixels of an image; outside the image it is black."""

    left: float
    top: float
    width: float
    height: float

    @classmethod
    def around(cls, box: NDArray[np.floating], size: tuple[int, int]) -> "Window":
        """The window around a box (left, top, right, bottom) with the aspect ratio of an input size (width, height)."""
        left, top, right, bottom = (float(side) for side in box)
        width, height = max(right - left, 1.0), max(bottom - top, 1.0)
        shape = size[0] / size[1]
        width, height = MARGIN * max(width, height * shape), MARGIN * max(height, width / shape)
        return cls((left + right - width) / 2, (top + bottom - height) / 2, width, height)

    def cut(self, pixels: NDArray[np.uint8], size: tuple[int, int], span: tuple[int, int]) -> NDArray[np.uint8]:
        """Crop an image (H, W, 3) to (h, w, 3) at `size` (width, height).

        Args:
            span: lengths of the window's sides in output pixels: `size`, or one less if they run from the centre of the
                first pixel to that of the last ("unbiased", Huang et al. 2020, "The Devil is in the Details").
        """
        across, down = span[0] / self.width, span[1] / self.height
        matrix = np.array([[across, 0, -self.left * across], [0, down, -self.top * down]])
        return np.asarray(cv2.warpAffine(pixels, matrix, size, flags=cv2.INTER_LINEAR))

    def to_image(self, positions: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points (..., 2) in pixels of the image, from fractions of the window's sides."""
        return np.asarray(positions, np.float64) * (self.width, self.height) + (self.left, self.top)
