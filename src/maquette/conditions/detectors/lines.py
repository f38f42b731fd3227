"""Straight lines without a network: OpenCV's probabilistic Hough transform and line segment detector."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.detectors.canny import unordered
from maquette.conditions.spec import DetectorSpec, Options, option, per_image

MIN_VOTES = 10  # with fewer, any curve of a small image counts as a line


@dataclass(frozen=True)
class HoughOptions(Options):
    low: float = option(100, "Canny's lower threshold, on the gradient.", 0, 2040)
    high: float = option(200, "Canny's upper threshold, on the gradient.", 0, 2040)
    votes: int = option(60, "Edge pixels that a line needs, at a short side of 512 pixels.", 1, 512)
    length: float = option(50, "Length of the shortest line, in pixels at a short side of 512.", 0, 512)
    gap: float = option(5, "Longest gap in a line, in pixels at a short side of 512.", 0, 512)

    def unfit(self) -> Iterator[str]:
        yield from unordered(self.low, self.high)


@dataclass(frozen=True)
class LsdOptions(Options):
    length: float = option(20, "Length of the shortest line, in pixels at a short side of 512.", 0, 512)


def hough(
    image: Image.Image, low: float = 100, high: float = 200, votes: int = 60, length: float = 50, gap: float = 5
) -> Image.Image:
    """White straight lines on black: Canny edges, then the progressive probabilistic Hough transform.

    Matas, Galambos, Kittler 2000, as in OpenCV; bins of one pixel and one degree.

    Args:
        low, high: Canny's thresholds on the gradient, 0 to 2040.
        votes, length, gap: in pixels at a short side of 512; they scale with it.
    """
    scale = min(image.size) / 512
    edges = cv2.Canny(_grey(image), low, high)
    votes = max(MIN_VOTES, round(votes * scale))
    lines = cv2.HoughLinesP(edges, 1, np.pi / 180, votes, None, length * scale, gap * scale)
    return _draw(_segments(lines), image)


def lsd(image: Image.Image, length: float = 20) -> Image.Image:
    """White straight lines on black: significant segments of pixels with a common gradient direction.

    LSD, von Gioi, Jakubowicz, Morel, Randall 2012, with OpenCV's default parameters.

    Args:
        length: of the shortest segment to draw, in pixels at a short side of 512.
    """
    segments = _segments(cv2.createLineSegmentDetector().detect(_grey(image))[0])
    lengths = np.hypot(*(segments[:, 2:] - segments[:, :2]).T)
    return _draw(segments[lengths >= length * min(image.size) / 512], image)


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY), np.uint8)


def _segments(lines: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """End points x, y, x, y of N segments, (N, 4); OpenCV 4 returns (N, 1, 4), or None for no lines."""
    return np.empty((0, 4), np.float32) if lines is None else np.asarray(lines, np.float32).reshape(-1, 4)


def _draw(segments: NDArray[np.float32], image: Image.Image) -> Image.Image:
    """Segments (N, 4) in pixels, one pixel wide up to a short side of 512, as in published line maps."""
    canvas = np.zeros((image.height, image.width), np.uint8)
    width = max(1, round(min(image.size) / 512))
    for x1, y1, x2, y2 in segments.round().astype(int).tolist():
        cv2.line(canvas, (x1, y1), (x2, y2), 255, width)
    return Image.fromarray(canvas).convert("RGB")


HOUGH = DetectorSpec("hough", "straight lines (Hough), white on black", per_image(hough), HoughOptions, lines=True)
LSD = DetectorSpec("lsd", "straight lines (LSD), white on black", per_image(lsd), LsdOptions, lines=True)
