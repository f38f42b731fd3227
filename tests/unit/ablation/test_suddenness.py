"""Jumps, ramps and plateaus whose dates and widths are known in closed form, scene by scene."""

import numpy as np
import pytest

from maquette.ablation.suddenness import suddenness

STEPS = list(range(0, 610, 10))
TIME = np.array(STEPS, float)


def rise(middle: float, width: float) -> np.ndarray:
    """From 0.3 to 0.7, of which 10 to 90 % take `width` steps."""
    return 0.3 + 0.4 / (1 + np.exp(-(TIME - middle) * 2 * np.log(9) / width))


def scenes(curves, sigma: float = 0.04) -> np.ndarray:
    """Curves of scenes (n, 16) with noise of their own."""
    clean = np.stack(list(curves), axis=1)
    return clean + np.random.default_rng(0).normal(0, sigma, clean.shape)


def test_a_jump_of_all_scenes_is_dated_with_its_width() -> None:
    found = suddenness(STEPS, scenes(rise(253, 40) for _ in range(16)))
    assert found["kind"] == "jump" and found["evidence"] > 10
    assert found["when"] == pytest.approx(253, abs=5) and found["width"] == pytest.approx(40, rel=0.3)
    assert found["when, from"] <= 253 <= found["when, to"] and found["width, from"] <= 40 <= found["width, to"]
    assert (found["before"], found["after"]) == pytest.approx((0.3, 0.7), abs=0.02)
    assert found["scenes that jump"] == 1


def test_scenes_that_jump_one_after_the_other_make_a_wider_rise_of_the_mean() -> None:
    """Each within 20 steps, all of them over 450: no scene ramps, but their mean does."""
    found = suddenness(STEPS, scenes((rise(75 + 30 * number, 20) for number in range(16)), sigma=0.02))
    assert found["kind"] == "ramp"
    assert found["scenes that jump"] > 0.8
    assert np.median(found["their widths"]) < 35 and found["width"] > 200


def test_a_line_is_a_ramp_and_a_plateau_is_flat() -> None:
    line = suddenness(STEPS, scenes(0.3 + 0.4 * TIME / 600 for _ in range(16)))
    assert line["kind"] == "ramp" and line["evidence"] < 10
    assert (line["before"], line["after"]) == pytest.approx((0.3, 0.7), abs=0.05)
    flat = suddenness(STEPS, scenes(0.3 + 0 * TIME for _ in range(16)))
    assert flat["kind"] == "flat" and flat["scenes that jump"] == 0


def test_scenes_without_anything_to_score_are_left_out() -> None:
    scores = scenes(rise(253, 40) for _ in range(16))
    scores[3:, 5] = np.nan
    with_all = suddenness(STEPS, np.delete(scores, 5, axis=1))
    assert suddenness(STEPS, scores) == with_all
