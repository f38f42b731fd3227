"""Doodles follow the borders of things, which are known here, and nothing else."""

import cv2
import numpy as np
import pytest

from maquette.conditions.drawing import doodles
from maquette.conditions.drawing.doodles import doodle

BACKGROUND, BALL, HOUSE = 2, 3, 4


def classes(size: int) -> np.ndarray:
    """A ball and a house on a horizon, and a thing of four pixels."""
    found = np.zeros((size, size), np.uint8)
    found[size // 2 :] = 1
    cv2.circle(found, (size // 4, size // 2), size // 6, BALL, -1)
    found[size // 2 : 3 * size // 4, 5 * size // 8 : 7 * size // 8] = HOUSE
    found[:2, :2] = BALL
    return found


def far(numbers: np.ndarray, which: int) -> np.ndarray:
    """Distance of each pixel to the border of a class, in pixels."""
    inside = (numbers == which).astype(np.uint8)
    inside[:4, :4] = 0
    return cv2.distanceTransform(inside, cv2.DIST_L2, 5) + cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)


@pytest.mark.parametrize("size", [128, 256])
@pytest.mark.parametrize("seed", range(6))
def test_strokes_follow_the_borders_of_things_alone(size, seed) -> None:
    numbers = classes(size)
    drawn = np.asarray(doodle(numbers, BACKGROUND, np.random.default_rng(seed)))
    assert drawn.shape == (size, size, 3) and set(np.unique(drawn)) == {0, 255}
    reach = (doodles.WIDTHS[1] / 2 / 128 + doodles.SIMPLER + 4 * doodles.MOVED) * size + 2
    assert np.minimum(far(numbers, BALL), far(numbers, HOUSE))[drawn[..., 0] > 0].max() <= reach


def test_every_thing_is_outlined_unless_chance_leaves_it_out(monkeypatch) -> None:
    numbers, shown = classes(128), []
    for seed in range(40):
        drawn = np.asarray(doodle(numbers, BACKGROUND, np.random.default_rng(seed)))[..., 0] > 0
        shown.append([bool(drawn[far(numbers, which) < 3].any()) for which in (BALL, HOUSE)])
    assert all(map(any, shown)), "never an empty picture"
    assert 0.6 < np.mean(shown) < 0.98
    monkeypatch.setattr(doodles, "LEFT_OUT", 0.0)
    drawn = np.asarray(doodle(numbers, BACKGROUND, np.random.default_rng(0)))[..., 0] > 0
    border = far(numbers, HOUSE) <= 1
    assert (cv2.dilate(drawn.astype(np.uint8), np.ones((9, 9)))[border] > 0).mean() > 0.95


def test_the_same_seed_draws_the_same_and_another_one_another() -> None:
    first, again, other = (doodle(classes(128), BACKGROUND, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert not np.asarray(doodle(np.zeros((64, 64), np.uint8), BACKGROUND, np.random.default_rng(0))).any()
