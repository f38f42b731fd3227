"""Straight lines are OpenCV's, found at scales that follow from the image's size."""

import cv2
import numpy as np
import pytest
from PIL import Image

import maquette as mq
from maquette.conditions.detectors.lines import hough, lsd


def roofs(size: int) -> Image.Image:
    """Slanted surfaces on a shaded ground with a little grain."""
    image = np.random.default_rng(0).integers(0, 12, (size, size, 3)).astype(np.uint8)
    image += np.linspace(60, 120, size, dtype=np.uint8)[:, None]
    for corner, colour in ((0.1, (200, 180, 90)), (0.4, (30, 60, 160)), (0.6, (230, 230, 240))):
        corners = np.array([[corner, 0.2], [corner + 0.25, 0.3], [corner + 0.2, 0.8], [corner - 0.05, 0.7]]) * size
        cv2.fillPoly(image, [corners.astype(np.int32)], colour)
    return Image.fromarray(image)


def white(segments: np.ndarray | None, image: Image.Image, width: int = 1) -> np.ndarray:
    drawn = np.zeros((image.height, image.width), np.uint8)
    for x1, y1, x2, y2 in np.zeros((0, 4)) if segments is None else np.round(segments).reshape(-1, 4).astype(int):
        cv2.line(drawn, (int(x1), int(y1)), (int(x2), int(y2)), 255, width)
    return np.dstack([drawn] * 3)


@pytest.mark.parametrize(("size", "times"), [(512, 1), (1024, 2)])
def test_hough_is_opencvs(size: int, times: int) -> None:
    image = roofs(size)
    edges = cv2.Canny(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY), 90, 180)
    expected = white(cv2.HoughLinesP(edges, 1, np.pi / 180, 50 * times, None, 40 * times, 6 * times), image, times)
    seen = np.asarray(mq.detect("hough", image, low=90, high=180, votes=50, length=40, gap=6))
    assert expected.any()
    assert np.array_equal(seen, expected)


@pytest.mark.parametrize(("size", "times"), [(512, 1), (1024, 2)])
def test_lsd_is_opencvs(size: int, times: int) -> None:
    image = roofs(size)
    found = cv2.createLineSegmentDetector().detect(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY))[0]
    assert np.array_equal(np.asarray(mq.detect("lsd", image, length=0)), white(found, image, times))
    found = found.reshape(-1, 4)
    longer = found[np.hypot(found[:, 2] - found[:, 0], found[:, 3] - found[:, 1]) >= 60 * times]
    assert 0 < len(longer) < len(found)
    assert np.array_equal(np.asarray(mq.detect("lsd", image, length=60)), white(longer, image, times))


@pytest.mark.parametrize("draw", [hough, lsd])
def test_lines_lie_on_the_contours_of_what_is_straight(draw) -> None:
    seen = np.asarray(draw(roofs(512)))[..., 0] > 0
    edges = cv2.Canny(cv2.cvtColor(np.asarray(roofs(512)), cv2.COLOR_RGB2GRAY), 90, 180)
    beside = cv2.dilate(edges, np.ones((5, 5), np.uint8)) > 0
    assert seen.sum() > 1000
    assert (seen & beside).sum() > 0.9 * seen.sum()
