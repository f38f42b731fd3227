"""M-LSD: decoding and drawing of segments; with the published small weights, that lines lie on edges."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tests.unit.conditions.random_weights import write_random

import maquette as mq
from maquette.conditions.detectors.mlsd import draw, segments
from maquette.conditions.networks.mlsd import Tiny

REAL = Path(__file__).resolve().parents[4] / "shared/data/weights/mlsd_tiny_512_fp32.pth"
real = pytest.mark.skipif(not REAL.is_file(), reason="needs M-LSD's published small weights")

FRAME = (90, 130, 400, 370)  # left, top, right, bottom of a frame that an image shows


def frame(size: tuple[int, int] = (512, 512)) -> Image.Image:
    image = Image.new("RGB", (512, 512), (110, 110, 110))
    ImageDraw.Draw(image).rectangle(FRAME, outline="white", width=5)
    return image.resize(size, Image.Resampling.LANCZOS)


def output_with(*peaks: tuple[int, int, float, tuple[float, float, float, float]]) -> torch.Tensor:
    """A map of 20×30 with centres (x, y, logit, ends from there), and nothing else."""
    output = torch.zeros(1, 9, 20, 30)
    output[:, 0] = -20
    for x, y, logit, ends in peaks:
        output[0, 0, y, x] = logit
        output[0, 1:5, y, x] = torch.tensor(ends)
    return output


def test_a_segment_goes_from_its_centre_to_both_ends() -> None:
    (found,) = segments(output_with((10, 4, 2.0, (-5, 1, 5, -2))), score=0.1, distance=0.1)
    assert found * [30, 20, 30, 20] == pytest.approx(np.array([[5, 5, 15, 2]]))


def test_the_most_confident_comes_first_and_suppresses_its_neighbours() -> None:
    ends = (-3.0, 0.0, 3.0, 0.0)
    (found,) = segments(output_with((10, 4, 1.0, ends), (20, 9, 3.0, ends), (21, 10, 2.0, ends)), 0.1, 0.1)
    assert found * [30, 20, 30, 20] == pytest.approx(np.array([[17, 9, 23, 9], [7, 4, 13, 4]]))


@pytest.mark.parametrize(("score", "distance", "count"), [(0.72, 5.9, 1), (0.74, 5.9, 0), (0.72, 6.1, 0)])
def test_weak_and_short_segments_are_left_out(score: float, distance: float, count: int) -> None:
    (found,) = segments(output_with((10, 4, 1.0, (-3, 0, 3, 0))), score, distance)  # sigmoid(1) is 0.731
    assert len(found) == count


def test_nothing_found_is_a_black_map() -> None:
    (found,) = segments(output_with(), score=0.1, distance=0.1)
    assert found.shape == (0, 4)
    assert not np.asarray(draw(found, (40, 30))).any()


@pytest.mark.parametrize(("size", "width"), [((300, 200), 1), ((900, 512), 1), ((2048, 1600), 3)])
def test_lines_are_as_wide_for_a_image_of_any_size(size: tuple[int, int], width: int) -> None:
    shown = np.asarray(draw(np.array([[0.5, 0.0, 0.5, 1.0]]), size))
    column = shown[size[1] // 2, :, 0] > 0
    assert column.sum() == width
    assert column[size[0] // 2]


def test_the_input_is_that_of_the_training(tmp_path, monkeypatch) -> None:
    inputs = []

    def forward(network: Tiny, x: torch.Tensor) -> torch.Tensor:
        inputs.append(x)
        return output_with()

    monkeypatch.setattr(Tiny, "forward", forward)
    mq.detect("mlsd", frame((640, 512)), weights=write_random("mlsd", tmp_path), device="cpu")
    pixels = np.asarray(frame((640, 512)), np.float32).transpose(2, 0, 1)
    constant = np.ones((1, 512, 640), np.float32)
    assert np.abs(inputs[0].numpy()[0] - (np.concatenate([pixels, constant]) / 127.5 - 1)).max() < 1e-6


def distances_from_frame(shown: NDArray[np.uint8], scale: float) -> NDArray[np.float64]:
    """Distance of each white pixel to the nearest side of the frame, in pixels of the map."""
    left, top, right, bottom = (value * scale for value in FRAME)
    y, x = np.nonzero(shown[..., 0])
    across = np.stack([abs(x - left), abs(x - right), abs(y - top), abs(y - bottom)])
    return across.min(axis=0)


@real
@pytest.mark.parametrize("side", [256, 512, 1024])
def test_real_weights_draw_a_frame_where_it_is(side: int) -> None:
    detector = mq.Detector("mlsd", REAL, device="cpu")
    shown = np.asarray(detector(frame((side, side)), score=0.2, distance=20))
    scale = side / 512
    apart = distances_from_frame(shown, scale)
    assert apart.size > 0.9 * 2 * (FRAME[2] - FRAME[0] + FRAME[3] - FRAME[1]) * scale
    assert apart.max() <= max(3, 5 * scale)  # the frame's own width among them


@real
def test_real_weights_see_nothing_in_a_blank_image() -> None:
    shown = mq.detect("mlsd", Image.new("RGB", (200, 300), "white"), weights=REAL, device="cpu")
    assert not np.asarray(shown).any()


@real
def test_real_weights_draw_the_same_alone_and_among_others() -> None:
    detector = mq.Detector("mlsd", REAL, device="cpu")
    images = [frame(), frame((300, 200)), mq.diorama.scene(11).image, frame().rotate(10)]
    for image, together in zip(images, detector(images), strict=True):
        assert (np.asarray(detector(image)) != np.asarray(together)).mean() < 1e-3
