"""Sudden convergence is dated where it happened, and acted on only once the date has settled."""

import numpy as np
import pytest

from maquette.training.monitor.dating import LEAST_MEASUREMENTS, convergence_step, settled_at

COUNT = 40
STEPS = list(range(0, 100 * COUNT, 100))


def noisy(curve: np.ndarray, seed: int, sigma: float = 0.02) -> list[float]:
    return (curve + np.random.default_rng(seed).normal(0, sigma, len(curve))).tolist()


def jump(place: int, height: float = 0.25) -> np.ndarray:
    return 0.35 + height * (np.arange(COUNT) >= place)


@pytest.mark.parametrize("seed", range(30))
def test_a_noisy_plateau_never_converges(seed) -> None:
    """Although its best score is more than 0.05 above the first."""
    scores = noisy(np.full(COUNT, 0.35), seed)
    assert settled_at(STEPS, scores) is None
    assert convergence_step(STEPS, scores) is None


def test_a_slow_rise_is_not_sudden() -> None:
    """With noise, one early stretch in thirty may look like a jump."""
    line = np.linspace(0.35, 0.75, COUNT)
    assert all(convergence_step(STEPS, noisy(line, seed)) is None for seed in range(30))
    assert sum(settled_at(STEPS, noisy(line, seed, sigma=0.01)) is not None for seed in range(30)) <= 1
    assert all(settled_at(STEPS[:end], line[:end].tolist()) is None for end in range(COUNT))


@pytest.mark.parametrize("seed", range(10))
def test_a_jump_is_dated_and_settles_after_it(seed) -> None:
    """At 40 % of the run; before the last third of the measurements lies behind the jump, the date is provisional."""
    scores = noisy(jump(16), seed)
    assert convergence_step(STEPS, scores) == 1600
    settled = settled_at(STEPS, scores)
    assert settled is not None and 2200 <= settled <= 2800
    assert settled_at(STEPS[:20], scores[:20]) is None


def test_a_bump_before_the_jump_does_not_count() -> None:
    """A rise of 0.06 over four early measurements, which the whole curve's date ignores."""
    bump = 0.06 * np.isin(np.arange(COUNT), range(5, 9))
    scores = noisy(jump(25) + bump, 0, sigma=0.004)
    assert convergence_step(STEPS[:9], scores[:9]) == 500  # provisional
    assert convergence_step(STEPS, scores) == 2500
    settled = settled_at(STEPS, scores)
    assert settled is not None and settled > 2500


def test_few_measurements_stay_provisional() -> None:
    scores = [0.3] * 4 + [0.6] * (LEAST_MEASUREMENTS - 5)
    assert convergence_step(STEPS[: len(scores)], scores) == 400
    assert settled_at(STEPS[: len(scores)], scores) is None
    assert settled_at(STEPS[: len(scores) + 1], [*scores, 0.6]) == STEPS[LEAST_MEASUREMENTS - 1]


@pytest.mark.parametrize("seed", range(10))
def test_what_is_measured_later_changes_no_action(seed) -> None:
    """A run that is resumed from any of its measurements acts at the same step."""
    scores = noisy(jump(16) + 0.1 * (np.arange(COUNT) > 30), seed, sigma=0.04)
    whole = settled_at(STEPS, scores)
    for end in range(1, COUNT + 1):
        assert settled_at(STEPS[:end], scores[:end]) == (
            whole if whole is not None and STEPS[end - 1] >= whole else None
        )


def test_the_step_of_sudden_convergence() -> None:
    steps = list(range(0, 900, 100))
    assert convergence_step(steps, [0.3, 0.31, 0.3, 0.29, 0.52, 0.6, 0.63, 0.62, 0.64]) == 400
    assert convergence_step(steps, [0.3, 0.31, 0.3, 0.29, 0.31, 0.3, 0.31, 0.32, 0.3]) is None
    assert convergence_step(steps[:2], [0.1, 0.9]) is None
    assert convergence_step(steps, [0.3, 0.46, 0.31, 0.3, 0.55, 0.56, 0.57, 0.56, 0.58]) == 400  # an outlier
