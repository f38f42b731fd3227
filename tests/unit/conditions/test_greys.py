"""Maps in levels of grey: at which size a network sees an image, and how its answer comes back."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.unit.conditions.random_weights import write_random

import maquette as mq
from maquette.conditions.detectors.hed import stepped
from maquette.conditions.inference import AT_ONCE, grayscale_inference, shown


@pytest.mark.parametrize(
    ("size", "resolution", "seen"),
    [
        ((640, 480), None, (640, 480)),  # its own
        ((100, 300), None, (256, 768)),  # not below 256
        ((3000, 2000), None, (1536, 1024)),  # nor above 1024
        ((500, 500), None, (496, 496)),  # in multiples
        ((640, 480), 64, (80, 64)),  # as it was asked for
        ((20_000, 10), None, (1024, 256)),  # a strip is squeezed
    ],
)
def test_the_size_at_which_a_image_is_seen(size, resolution, seen) -> None:
    sizes = []

    def look(images: list[Image.Image]) -> NDArray[np.float32]:
        sizes.extend(one.size for one in images)
        return np.stack([np.full(one.size[::-1], 0.5, np.float32) for one in images])

    (levels,) = grayscale_inference([Image.new("RGB", size)], resolution, 16, look, AT_ONCE)
    assert sizes == [seen]
    assert levels.shape == size[::-1]
    assert np.ptp(levels) < 1e-6


def test_large_images_are_seen_one_at_a_time_and_small_ones_together() -> None:
    counts: list[int] = []

    def look(images: list[Image.Image]) -> NDArray[np.float32]:
        counts.append(len(images))
        return np.zeros((len(images), *images[0].size[::-1]), np.float32)

    grayscale_inference([Image.new("RGB", (256, 256))] * 9, None, 16, look, AT_ONCE)
    assert counts == [9]
    counts.clear()
    grayscale_inference([Image.new("RGB", (1400, 1024))] * 2, None, 16, look, AT_ONCE)
    assert counts == [1, 1]


def test_levels_are_shown_from_black_to_white() -> None:
    image = shown(np.array([[-0.1, 0.0, 0.5, 0.999, 1.2]], np.float32))
    assert image.mode == "RGB"
    assert np.asarray(image)[0].tolist() == [[level] * 3 for level in (0, 0, 127, 254, 255)]


def test_safe_edges_are_black_grey_or_white_by_thirds() -> None:
    levels = np.array([0, 0.33, 0.34, 0.66, 0.67, 1], np.float32)
    assert stepped(levels).tolist() == [0, 0, 0.5, 0.5, 1, 1]


def test_hed_is_safe_when_it_is_asked_to(tmp_path) -> None:
    image = mq.diorama.scene(11).image.resize((200, 120))
    detector = mq.Detector("hed", write_random("hed", tmp_path), device="cpu")
    assert set(np.unique(np.asarray(detector(image, safe=True)))) == {0, 127, 255}
    assert len(np.unique(np.asarray(detector(image)))) > 50
