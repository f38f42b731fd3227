"""Canny with random thresholds."""

import numpy as np

import maquette as mq
from maquette.conditions.detectors.canny import canny, random_thresholds


def test_with_a_seed_thresholds_are_random_and_low_and_high_have_no_effect() -> None:
    image = mq.diorama.scene(3).image
    seen = mq.detect("canny", image, seed=5)
    assert seen == canny(image, *random_thresholds(np.random.default_rng(5)))
    assert seen == mq.detect("canny", image, low=0, high=1, seed=5)
    assert len({mq.detect("canny", image, seed=seed).tobytes() for seed in range(8)}) > 4


def test_random_thresholds_stay_in_range() -> None:
    rng = np.random.default_rng(0)
    low, high = np.array([random_thresholds(rng) for _ in range(500)]).T
    assert low.min() >= 30 and low.max() <= 130
    assert (high / low).min() >= 1.5 and (high / low).max() <= 3
    assert low.std() > 20 and (high / low).std() > 0.3
