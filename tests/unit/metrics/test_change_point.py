"""Changes are found where they are, and models compared as a slow loop over fits compares them."""

import math

import numpy as np
import pytest

from maquette.metrics.change_point import WIDTHS_PER_SCALE, growing, located, noise_of, noise_of_mean


def curve(middle: float, width: float, count: int = 60) -> np.ndarray:
    return 0.3 + 0.4 / (1 + np.exp(-(np.arange(count) - middle) * WIDTHS_PER_SCALE / width))


def slow_evidence(values: np.ndarray, sigma: float) -> tuple[float, float, float]:
    """Evidence, middle and width by solving each least-squares problem alone."""
    count, time = len(values), np.arange(len(values))

    def rest(*columns: np.ndarray) -> float:
        design = np.stack([np.ones(count), *columns], axis=1)
        left = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
        return float(left @ left) / sigma**2

    plain = min(rest() + math.log(count), rest(time) + 2 * math.log(count))
    best = (math.inf, 0.0, 0.0)
    for middle in np.arange(1, 2 * count - 1) / 2:
        for width in [0.0, *2.0 ** np.arange(math.floor(math.log2(2 * count)) + 1)]:
            if width:
                column = 1 / (1 + np.exp(-(time - middle) * WIDTHS_PER_SCALE / width))
            else:
                column = (time >= middle).astype(float)
            if np.ptp(column) < 1e-4 or np.polyfit(column, values, 1)[0] <= 0:
                continue
            best = min(best, (rest(column) + (4 if width else 3) * math.log(count), middle, width))
    return plain - best[0], best[1], best[2]


@pytest.mark.parametrize("seed", range(4))
def test_every_prefix_is_compared_as_a_slow_loop_does(seed) -> None:
    values = curve(7, 3, 16) + np.random.default_rng(seed).normal(0, 0.03, 16)
    found = growing(values, noise=0.05)  # more than its roughness
    for end in (9, 12, 16):
        evidence, middle, width = slow_evidence(values[:end], 0.05)
        change = found[end - 1]
        assert (change.middle, change.width) == (middle, width)
        assert change.evidence == pytest.approx(evidence, abs=1e-6)


@pytest.mark.parametrize("width", [2.0, 6.0, 15.0])
@pytest.mark.parametrize("middle", [20.25, 33.0])
def test_middle_and_width_of_a_known_change_are_found(middle, width) -> None:
    change = located(curve(middle, width), noise=0.005)
    assert change.middle == pytest.approx(middle, abs=0.13)
    assert change.width == pytest.approx(width, rel=0.05)
    assert (change.low, change.high) == pytest.approx((0.3, 0.7), abs=0.005)
    assert change.middles[0] <= middle <= change.middles[1] and change.widths[0] <= width <= change.widths[1]


def test_intervals_cover_the_truth_at_their_rate() -> None:
    """The middle of 60 noisy curves lies in its 95 % interval in all but a few."""
    rng = np.random.default_rng(0)
    found = [located(curve(30.3, 8) + rng.normal(0, 0.02, 60), noise=0.02, per=4) for _ in range(60)]
    assert sum(one.middles[0] <= 30.3 <= one.middles[1] for one in found) >= 52
    assert np.mean([one.middles[1] - one.middles[0] for one in found]) < 3


def test_a_line_is_no_change() -> None:
    line = np.linspace(0.3, 0.7, 60) + np.random.default_rng(1).normal(0, 0.01, 60)
    assert located(line).evidence < 0
    assert located(curve(30, 4) + np.random.default_rng(1).normal(0, 0.01, 60)).evidence > 100


def test_noise_is_read_off_second_differences() -> None:
    """Of a line with a jump: neither adds to it."""
    rng = np.random.default_rng(0)
    line = np.linspace(0, 1, 400) + 0.5 * (np.arange(400) > 200)
    assert noise_of(line + rng.normal(0, 0.02, 400))[-1] == pytest.approx(0.02, rel=0.15)
    assert noise_of(line)[:2].tolist() == [0, 0] and noise_of(line)[-1] == pytest.approx(0, abs=1e-12)


def test_noise_of_a_mean_is_what_scenes_change_by_differently() -> None:
    """σ / √n for independent scenes, whatever they have in common and however they differ for good."""
    rng = np.random.default_rng(0)
    common, lasting = np.cumsum(rng.normal(0, 0.1, (200, 1)), axis=0), rng.normal(0, 0.3, (1, 16))
    scores = common + lasting + rng.normal(0, 0.08, (200, 16))
    assert noise_of_mean(scores) == pytest.approx(0.08 / 4, rel=0.1)
    scores[:, 3] = np.nan
    assert noise_of_mean(scores) == pytest.approx(0.08 / math.sqrt(15), rel=0.1)
    assert noise_of_mean(scores[:1]) == 0
