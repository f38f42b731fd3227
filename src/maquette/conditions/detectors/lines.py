"""Straight lines without a network: OpenCV's probabilistic Hough transform and its line segment detector."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.detectors.canny import unordered
from maquette.conditions.options import Options, option
from maquette.conditions.spec import DetectorSpec, each

FEWEST = 10  # votes: in fewer pixels of a small image a line is any curve


@dataclass(frozen=True)
class HoughOptions(Options):
    low: float = option(100, "Canny's lower threshold, on the gradient.", 0, 2040)
    high: float = option(200, "Canny's upper threshold, on the gradient.", 0, 2040)
    votes: int = option(60, "Edge pixels that a line needs, where the short side has 512 pixels.", 1, 512)
    length: float = option(50, "Of the shortest line, in pixels where the short side has 512.", 0, 512)
    gap: float = option(5, "Longest gap in a line, in pixels where the short side has 512.", 0, 512)

    def unfit(self) -> Iterator[str]:
        yield from unordered(self.low, self.high)


@dataclass(frozen=True)
class LsdOptions(Options):
    length: float = option(20, "Of the shortest line, in pixels where the short side has 512.", 0, 512)


def hough(
    image: Image.Image, low: float = 100, high: float = 200, votes: int = 60, length: float = 50, gap: float = 5
) -> Image.Image:
    """White straight lines on black: Canny edges, then the progressive probabilistic Hough transform.

    Matas, Galambos, Kittler 2000, as OpenCV has it; bins of a pixel and a degree.

    Args:
        low, high: Canny's thresholds on the gradient, 0 to 2040.
        votes, length, gap: pixels where the image's short side has 512; they scale with it.
    """
    scale = min(image.size) / 512
    edges = cv2.Canny(_grey(image), low, high)
    least = max(FEWEST, round(votes * scale))
    found = cv2.HoughLinesP(edges, 1, np.pi / 180, least, None, length * scale, gap * scale)
    return _drawn(_segments(found), image)


def lsd(image: Image.Image, length: float = 20) -> Image.Image:
    """White straight lines on black: segments of pixels whose gradients agree, as far as chance does not explain them.

    LSD, von Gioi, Jakubowicz, Morel, Randall 2012, as OpenCV has it with its own settings.

    Args:
        length: of the shortest that is drawn, in pixels where the image's short side has 512.
    """
    segments = _segments(cv2.createLineSegmentDetector().detect(_grey(image))[0])
    lengths = np.hypot(*(segments[:, 2:] - segments[:, :2]).T)
    return _drawn(segments[lengths >= length * min(image.size) / 512], image)


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY), np.uint8)


def _segments(found: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Ends x, y, x, y of each, (N, 4): OpenCV 4 has (N, 1, 4), and None stands for none."""
    return np.empty((0, 4), np.float32) if found is None else np.asarray(found, np.float32).reshape(-1, 4)


def _drawn(segments: NDArray[np.float32], image: Image.Image) -> Image.Image:
    """A pixel wide where the short side has up to 512 pixels, as published maps of lines have them."""
    drawn = np.zeros((image.height, image.width), np.uint8)
    width = max(1, round(min(image.size) / 512))
    for x1, y1, x2, y2 in segments.round().astype(int).tolist():
        cv2.line(drawn, (x1, y1), (x2, y2), 255, width)
    return Image.fromarray(drawn).convert("RGB")


HOUGH = DetectorSpec("hough", "straight lines (Hough), white on black", each(hough), HoughOptions)
LSD = DetectorSpec("lsd", "straight lines (LSD), white on black", each(lsd), LsdOptions)
