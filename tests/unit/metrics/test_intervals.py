"""Intervals by bootstrap: they cover the true mean as often as they say, and scale with floor and ceiling."""

import numpy as np
import pytest

from maquette.metrics.frechet import frechet_interval
from maquette.metrics.intervals import Interval, bootstrap


def test_an_interval_covers_the_true_mean_in_nineteen_of_twenty_cases() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        found = bootstrap(rng.exponential(size=200), draws=500)
        covered += found.low <= 1 <= found.high
    assert 0.91 < covered / 300 < 0.98


def test_values_that_could_not_be_scored_are_left_out() -> None:
    assert bootstrap(np.array([1.0, np.nan, 1.0])) == Interval(1, 1, 1)
    assert np.isnan(bootstrap(np.array([np.nan])).mean)


def test_between_floor_and_ceiling() -> None:
    scaled = Interval(0.6, 0.5, 0.7).between(floor=0.2, ceiling=1.0)
    assert (scaled.mean, scaled.low, scaled.high) == pytest.approx((0.5, 0.375, 0.625))


def test_the_interval_of_a_frechet_distance_holds_the_closed_form_of_two_gaussians() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2000, 4)), rng.normal(loc=0.5, scale=1.5, size=(2000, 4))
    found = frechet_interval(a, b)
    assert found.low < 4 * 0.5**2 + 4 * 0.5**2 < found.high
    assert found.high - found.low < 0.6
