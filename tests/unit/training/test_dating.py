"""Sudden convergence is dated where it happened, and acted on only once the date has settled."""

import numpy as np
import pytest

from maquette.training.monitor.dating import LEAST_MEASUREMENTS, convergence_step, settled_at

COUNT = 100
TIME = np.arange(COUNT)
STEPS = list(range(0, 10 * COUNT, 10))


def noisy(curve: np.ndarray, seed: int, sigma: float = 0.015) -> list[float]:
    """With the noise that the mean of sixteen scenes has."""
    return (curve + np.random.default_rng(seed).normal(0, sigma, len(curve))).tolist()


def jump(middle: float, width: float = 0.0, height: float = 0.25, drift: float = 0.0) -> np.ndarray:
    """A rise whose middle is known: it takes `width` measurements from 10 to 90 %, and a slow drift follows."""
    share = 1 / (1 + np.exp(-(TIME - middle) * 2 * np.log(9) / width)) if width else middle <= TIME
    return 0.35 + height * share + drift * np.maximum(TIME - middle, 0) / COUNT


NO_JUMPS = {
    "plateau": np.full(COUNT, 0.35),
    "line": np.linspace(0.35, 0.75, COUNT),
    "gentle line": np.linspace(0.35, 0.5, COUNT),
    "ramp over half of the run": 0.35 + 0.3 * np.clip((TIME - 25) / 50, 0, 1),
    "saturation": 0.35 + 0.3 * (1 - np.exp(-TIME / 30)),
    "acceleration": 0.35 + 0.3 * (TIME / COUNT) ** 2,
}


@pytest.mark.parametrize("name", NO_JUMPS)
def test_what_does_not_jump_has_no_date(name) -> None:
    """Neither at the end nor at any measurement before it."""
    for seed in range(15):
        scores = noisy(NO_JUMPS[name], seed)
        assert convergence_step(STEPS, scores) is None
        assert settled_at(STEPS, scores) is None
    assert settled_at(STEPS, NO_JUMPS[name].tolist()) is None


@pytest.mark.parametrize("drift", [0.0, 0.1])
@pytest.mark.parametrize("width", [0, 4, 8])
@pytest.mark.parametrize("middle", [20.5, 39.5, 55.5])
def test_a_run_acts_on_the_date_that_its_finished_curve_shows(middle, width, drift) -> None:
    """Within 5 %, or one measurement, in nine of ten runs; and never before the rise is over."""
    right, true = 0, 10 * np.ceil(middle)  # the first measurement past the middle
    for seed in range(10):
        scores = noisy(jump(middle, width, drift=drift), seed)
        acted = settled_at(STEPS, scores)
        if acted is None:
            continue
        assert acted > 10 * (middle + width / 2)
        so_far = acted // 10 + 1
        dates = convergence_step(STEPS[:so_far], scores[:so_far]), convergence_step(STEPS, scores)
        right += all(date is not None and abs(date - true) <= max(10, 0.05 * true) for date in dates)
    assert right >= 9


def test_a_sharp_jump_is_dated_to_the_measurement() -> None:
    assert convergence_step(STEPS, jump(40).tolist()) == 400
    assert settled_at(STEPS, jump(40).tolist()) == 620  # when the last third has given that date


def test_a_bump_before_the_jump_does_not_count() -> None:
    """A rise of 0.12 over four early measurements, which the whole curve's date ignores."""
    bump = 0.12 * np.isin(TIME, range(5, 9))
    scores = noisy(jump(50, height=0.3) + bump, 0, sigma=0.004)
    assert convergence_step(STEPS[:9], scores[:9]) == 50  # provisional
    assert convergence_step(STEPS, scores) == 500
    settled = settled_at(STEPS, scores)
    assert settled is not None and settled > 500


def test_a_small_rise_is_no_convergence() -> None:
    """However sure it is: 0.06 of edge F1 is not following."""
    assert convergence_step(STEPS, jump(40, height=0.06).tolist()) is None
    assert convergence_step(STEPS, jump(40, height=0.06).tolist(), least=0.01) == 400


def test_few_measurements_stay_provisional() -> None:
    scores = [0.3] * 4 + [0.6] * (LEAST_MEASUREMENTS - 5)
    assert convergence_step(STEPS[: len(scores)], scores) == 40
    assert settled_at(STEPS[: len(scores)], scores) is None
    assert settled_at(STEPS[: len(scores) + 1], [*scores, 0.6]) == STEPS[LEAST_MEASUREMENTS - 1]


@pytest.mark.parametrize("seed", range(10))
def test_what_is_measured_later_changes_no_action(seed) -> None:
    """A run that is resumed from any of its measurements acts at the same step."""
    scores = noisy(jump(16.5) + 0.1 * (TIME > 30), seed, sigma=0.04)[:40]
    whole = settled_at(STEPS[:40], scores)
    for end in range(1, 41):
        assert settled_at(STEPS[:end], scores[:end]) == (
            whole if whole is not None and STEPS[end - 1] >= whole else None
        )


def test_noise_that_the_scenes_tell_makes_a_date_less_sure() -> None:
    """A rise from 0.35 to 0.5 is one if scores are known to 0.01, and may be luck if to 0.1."""
    scores = jump(6, height=0.15)[:13].tolist()
    assert convergence_step(STEPS[:13], scores, noise=[0.01] * 13) == 60
    assert convergence_step(STEPS[:13], scores, noise=[0.1] * 13) is None


def test_the_step_of_sudden_convergence() -> None:
    steps = list(range(0, 900, 100))
    assert convergence_step(steps, [0.3, 0.31, 0.3, 0.29, 0.52, 0.6, 0.63, 0.62, 0.64]) == 400
    assert convergence_step(steps, [0.3, 0.31, 0.3, 0.29, 0.31, 0.3, 0.31, 0.32, 0.3]) is None
    assert convergence_step(steps[:2], [0.1, 0.9]) is None
    outlier = [0.3, 0.31, 0.46, 0.31, 0.3, 0.3, 0.55, 0.56, 0.57, 0.56, 0.58, 0.57]
    assert convergence_step(STEPS[:12], outlier) == 60
    assert convergence_step(steps, [0.3] * 8 + [0.9]) is None  # one measurement may be luck
    assert convergence_step(steps, [float("nan")] * 9) is None and convergence_step([], []) is None
