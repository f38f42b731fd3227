"""Normals from depth: exact depth against exact normals, and the paper's from disparity."""

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.unit.conditions.tiny_models import write_tiny

import maquette as mq
from maquette.conditions.detectors.depth import Disparity
from maquette.conditions.detectors.normal import normals_from_disparity
from maquette.diorama.world import HALF_VIEW

FIELD_OF_VIEW = 2 * math.degrees(math.atan(HALF_VIEW))


def normals_from_depth(depth: NDArray[np.floating], field_of_view: float) -> NDArray[np.float32]:
    """Unit normals (H, W, 3) of the surfaces that depth shows; axes right, up, towards the viewer.

    On a plane 1 / depth is linear in the image, so that its gradient gives the normal exactly. Where depth jumps, the
    normal is of no surface.

    Args:
        depth: (H, W) metres along the camera's axis, above 0.
        field_of_view: of the image's width, in degrees, above 0 and below 180; pixels are square.
    """
    height, width = depth.shape
    pixel = 2 * math.tan(math.radians(field_of_view) / 2) / width  # at distance 1
    disparity = np.pad(1 / np.asarray(depth, np.float64), 1, "reflect", reflect_type="odd")
    across = (disparity[1:-1, 2:] - disparity[1:-1, :-2]) / (2 * pixel)
    upwards = (disparity[:-2, 1:-1] - disparity[2:, 1:-1]) / (2 * pixel)
    right = (np.arange(width) + 0.5 - width / 2) * pixel
    up = (height / 2 - np.arange(height)[:, None] - 0.5) * pixel
    towards = disparity[1:-1, 1:-1] - right * across - up * upwards
    normals = np.stack([-across, -upwards, towards], axis=2)
    return (normals / np.linalg.norm(normals, axis=2, keepdims=True)).astype(np.float32)


def smooth(depth: np.ndarray, ratio: float = 1.03) -> np.ndarray:
    """Where the largest depth among a pixel and its neighbours is less than so many times the smallest."""
    square = np.ones((3, 3))
    return cv2.dilate(depth, square) < ratio * cv2.erode(depth, square)


@pytest.mark.parametrize("seed", [3, 5, 9, 12, 33])
def test_exact_depth_gives_the_exact_normals(seed: int) -> None:
    scene = mq.diorama.scene(seed)
    found = normals_from_depth(scene.depth, FIELD_OF_VIEW)
    surface = (np.linalg.norm(scene.normals, axis=2) > 0.5) & smooth(scene.depth)
    angles = np.degrees(np.arccos(np.clip((found * scene.normals).sum(axis=2), -1, 1)))[surface]
    assert surface.mean() > 0.2
    assert angles.mean() < 3  # degrees
    assert np.allclose(np.linalg.norm(found, axis=2), 1, atol=1e-5)


def test_planes_have_their_normal_up_to_the_rim() -> None:
    normal = np.array([0.3, 0.8, 0.52]) / np.linalg.norm([0.3, 0.8, 0.52])
    height, width, half = 40, 60, math.tan(math.radians(25))
    x, y = np.meshgrid((np.arange(width) + 0.5 - width / 2), (height / 2 - np.arange(height) - 0.5))
    rays = np.stack([x * 2 * half / width, y * 2 * half / width, -np.ones_like(x)], axis=2)
    depth = -4 / (rays @ normal)  # where a ray of depth 1 meets the plane: normal · point = -4
    assert (depth > 0).all()
    assert np.abs(normals_from_depth(depth, 50) - normal).max() < 1e-5


def test_of_a_ball_in_disparity_the_left_is_red_and_the_top_green() -> None:
    x, y = np.meshgrid(np.linspace(-1, 1, 65), np.linspace(-1, 1, 65))
    disparity = 1000 * np.sqrt(np.maximum(1 - x**2 - y**2, 0))
    normals = normals_from_disparity(disparity, background=0.1, strength=1)
    assert normals[32, 12, 0] > 0.5 > -0.5 > normals[32, 52, 0]
    assert normals[12, 32, 1] > 0.5 > -0.5 > normals[52, 32, 1]
    assert np.allclose(normals[32, 32], (0, 0, 1), atol=1e-2)
    assert np.allclose(normals[0, 0], (0, 0, 1))  # the background
    flat = normals_from_disparity(disparity, background=0.1, strength=0.1)
    assert (flat[..., 2] >= normals[..., 2] - 1e-6).all()


def test_the_detector_draws_as_the_published_one(tmp_path) -> None:
    """The steps of annotator/midas in ControlNet 1.0, on what the same network sees."""
    folder = write_tiny("dpt_hybrid", tmp_path)
    image = mq.diorama.scene(3).image.resize((64, 64))
    (disparity,) = Disparity("normal", folder, "cpu").predict([image], None)
    x, y = cv2.Sobel(disparity, cv2.CV_32F, 1, 0, ksize=3), cv2.Sobel(disparity, cv2.CV_32F, 0, 1, ksize=3)
    share = (disparity - disparity.min()) / (disparity - disparity.min()).max()
    x[share < 0.2] = y[share < 0.2] = 0
    expected = np.dstack([x, y, np.full_like(x, 2 * np.pi)])
    expected = expected / np.sqrt((expected**2).sum(axis=2, keepdims=True)) * 127.5 + 127.5
    detector = mq.Detector("normal", folder, device="cpu")
    drawn = np.asarray(detector(image, background=0.2), float)
    assert np.ptp(expected[..., 0]) > 2
    assert np.abs(drawn - expected).max() <= 1
    mirrored = np.asarray(detector(image, background=0.2, red="right"), float)
    assert np.abs(mirrored[..., 0] - (255 - drawn[..., 0])).max() <= 1
    assert np.array_equal(mirrored[..., 1:], drawn[..., 1:])


def test_slopes_do_not_depend_on_what_the_network_squeezes(tmp_path) -> None:
    detector = mq.Detector("normal", write_tiny("dpt", tmp_path), device="cpu")
    image = mq.diorama.scene(9).image

    def across_beside_down(size: tuple[int, int]) -> float:
        levels = np.asarray(detector(image.resize(size), background=0.0, strength=5), float) - 127.5
        across, down, _ = np.abs(levels / levels[..., 2:]).mean(axis=(0, 1))
        return float(across / down)

    assert across_beside_down((256, 64)) < 0.6 * across_beside_down((64, 64))  # as much depth, four times as wide
