"""Grey-level maps: the input size of a network, and resizing of its output."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.unit.conditions.random_weights import write_random

import maquette as mq
from maquette.conditions.detectors.hed import quantized
from maquette.conditions.inference import BATCH_PIXELS, grayscale_inference, grey_image


@pytest.mark.parametrize(
    ("size", "resolution", "expected"),
    [
        ((640, 480), None, (640, 480)),  # the image's own
        ((100, 300), None, (256, 768)),  # not below 256
        ((3000, 2000), None, (1536, 1024)),  # nor above 1024
        ((500, 500), None, (496, 496)),  # in multiples
        ((640, 480), 64, (80, 64)),  # as requested
        ((20_000, 10), None, (1024, 256)),  # a strip is squeezed
    ],
)
def test_the_input_size(size, resolution, expected) -> None:
    sizes = []

    def predict(images: list[Image.Image]) -> NDArray[np.float32]:
        sizes.extend(image.size for image in images)
        return np.stack([np.full(image.size[::-1], 0.5, np.float32) for image in images])

    (levels,) = grayscale_inference([Image.new("RGB", size)], resolution, 16, predict, BATCH_PIXELS)
    assert sizes == [expected]
    assert levels.shape == size[::-1]
    assert np.ptp(levels) < 1e-6


def test_large_images_run_one_at_a_time_and_small_ones_together() -> None:
    counts: list[int] = []

    def predict(images: list[Image.Image]) -> NDArray[np.float32]:
        counts.append(len(images))
        return np.zeros((len(images), *images[0].size[::-1]), np.float32)

    grayscale_inference([Image.new("RGB", (256, 256))] * 9, None, 16, predict, BATCH_PIXELS)
    assert counts == [9]
    counts.clear()
    grayscale_inference([Image.new("RGB", (1400, 1024))] * 2, None, 16, predict, BATCH_PIXELS)
    assert counts == [1, 1]


def test_levels_go_from_black_to_white() -> None:
    image = grey_image(np.array([[-0.1, 0.0, 0.5, 0.999, 1.2]], np.float32))
    assert image.mode == "RGB"
    assert np.asarray(image)[0].tolist() == [[level] * 3 for level in (0, 0, 127, 254, 255)]


def test_safe_edges_are_black_grey_or_white_by_thirds() -> None:
    levels = np.array([0, 0.33, 0.34, 0.66, 0.67, 1], np.float32)
    assert quantized(levels).tolist() == [0, 0, 0.5, 0.5, 1, 1]


def test_safe_hed_has_three_levels(tmp_path) -> None:
    image = mq.diorama.scene(11).image.resize((200, 120))
    detector = mq.Detector("hed", write_random("hed", tmp_path), device="cpu")
    assert set(np.unique(np.asarray(detector(image, safe=True)))) == {0, 127, 255}
    assert len(np.unique(np.asarray(detector(image)))) > 50
