"""Scores of shape: drawn squares are straight, discs are round, and what wobbles is less so."""

import cv2
import numpy as np
import pytest

from maquette.metrics.shape import roundness, straightness, things

GREY = np.full((128, 128, 3), 90, np.uint8)


def wobbly(radius: float, depth: float, corners: int) -> np.ndarray:
    """A disc (128, 128) whose outline moves in and out by `depth` pixels."""
    y, x = np.mgrid[:128, :128] - 63.5
    return np.hypot(x, y) < radius + depth * np.sin(corners * np.arctan2(y, x))


def painted(mask: np.ndarray) -> np.ndarray:
    return np.where(mask[..., None], np.uint8(220), GREY)


def test_a_square_is_straight_and_a_melted_one_is_not() -> None:
    square = np.zeros((128, 128), bool)
    square[30:90, 40:100] = True
    turned = cv2.warpAffine(square.astype(np.uint8), cv2.getRotationMatrix2D((64, 64), 20, 1), (128, 128)) > 0
    assert straightness(painted(square), square) > 0.95
    assert straightness(painted(turned), turned) > 0.9
    y, x = np.mgrid[:128, :128]
    melted = (abs(x - 70 + 2 * np.sin(y / 3)) < 30) & (abs(y - 60 + 2 * np.sin(x / 3)) < 30)
    assert straightness(painted(melted), melted) < 0.6


def test_a_disc_is_round_and_the_more_it_wobbles_the_less() -> None:
    scores = [roundness(wobbly(30, depth, 5)) for depth in (0, 2, 4, 8)]
    assert scores[0] == 1 and scores == sorted(scores, reverse=True) and scores[-1] < 0.4
    square = np.zeros((128, 128), bool)
    square[30:90, 40:100] = True
    assert roundness(square) < 0.5


def test_what_cannot_be_judged_is_left_out() -> None:
    assert np.isnan(roundness(np.roll(wobbly(30, 0, 1), 50, axis=1)))
    assert np.isnan(straightness(GREY, wobbly(20, 0, 1)))
    assert [int(thing.sum()) for thing in things(wobbly(20, 0, 1))] == [pytest.approx(np.pi * 400, rel=0.02)]
    assert not list(things(wobbly(3, 0, 1)))
