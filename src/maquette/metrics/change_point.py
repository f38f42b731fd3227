"""Where a curve of scores changes, how suddenly, and whether it does at all: models compared by BIC.

Three models of equally spaced measurements y_t, all with independent errors of a known deviation σ:

- level: y = a;
- line: y = a + b t;
- change: y = low + rise / (1 + exp(−(t − middle) / scale)), and the step that it becomes at scale 0.

BIC = Σ (y − ŷ)² / σ² + k ln n (Schwarz 1978), with k = 1, 2, 4 parameters and 3 of a step. A difference of 10 is very
strong evidence (Kass and Raftery 1995). The middle and the width of a change are searched on a grid; its two levels
are then linear, and their sums over the first n measurements serve every n at once.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]

WIDTHS_PER_SCALE = 2 * math.log(9)  # a logistic curve rises from 10 to 90 % within so many scales
SMALLEST_NOISE = 1e-4  # scores are rounded to four digits
NORMAL_MEDIAN = 0.6745  # of the absolute value of a standard normal variable
COVERED = 3.84  # the 95 % quantile of χ² with one degree of freedom


@dataclass(frozen=True)
class Change:
    """A change between two levels. Places and widths are counted in measurements, the first at 0."""

    middle: float  # where half of the rise is done
    width: float  # from 10 to 90 % of the rise; 0 is a step
    low: float
    high: float
    evidence: float  # BIC of the better one of level and line, less that of the change
    rising: float  # BIC of the level, less that of the better one of line and change

    def at(self, place: float) -> float:
        """The fitted value at a place."""
        if not self.width:
            return self.high if place >= self.middle else self.low
        share = 1 / (1 + math.exp(-(place - self.middle) * WIDTHS_PER_SCALE / self.width))
        return self.low + (self.high - self.low) * share


@dataclass(frozen=True)
class Located(Change):
    """A change with the 95 % intervals of its middle and its width, by profile likelihood."""

    middles: tuple[float, float]
    widths: tuple[float, float]


def noise_of(scores: ArrayLike) -> Values:
    """The deviation of the noise of scores (n,), estimated from the first 1, 2, ..., n of them: (n,).

    From the median of the second differences, to which a line and a few jumps add nothing.
    """
    bends = np.abs(np.diff(np.asarray(scores, float), 2)) / math.sqrt(6) / NORMAL_MEDIAN
    return np.array([0.0, 0.0, *(float(np.median(bends[:end])) for end in range(1, len(bends) + 1))][: np.size(scores)])


def noise_of_mean(scores: ArrayLike) -> float:
    """The deviation of the noise of the means over scenes, from scores (n, scenes); NaN where a scene has none.

    Scenes are measured anew each time, so what they change by differently between two measurements is noise: its
    variance is half of that of their differences. The median over time leaves a jump out.
    """
    steps = np.diff(np.asarray(scores, float), axis=0)
    steps = steps[(~np.isnan(steps)).sum(axis=1) > 1]
    if not len(steps):
        return 0.0
    counts = (~np.isnan(steps)).sum(axis=1)
    return float(np.sqrt(np.median(np.nanvar(steps, axis=1, ddof=1) / counts) / 2))


def growing(scores: ArrayLike, noise: ArrayLike = 0.0) -> list[Change]:
    """The best change in the first 1, 2, ..., n of the scores (n,), to half a measurement.

    Args:
        noise: the deviation of their noise, as far as it is known: one number, or (n,). Where the curve itself is
            rougher than that, its roughness counts.
    """
    values = np.asarray(scores, float)
    sigma = _sigma(values, noise)
    counts = np.arange(1, len(values) + 1)
    level, line = _plain_bic(values, sigma, counts)
    best = np.full((5, len(values)), np.nan)  # middle, width, low, high, BIC
    best[4] = np.inf
    middles = np.arange(1, max(2 * len(values) - 1, 2)) / 2
    for width, rest, low, rise in _changes(values, middles, _widths(len(values), 1)):
        bic = rest / sigma**2 + (4 if width else 3) * np.log(counts)
        bic[(middles[:, None] > counts - 1) | (width > 2 * counts)] = np.inf  # what a curve so short cannot tell
        row = bic.argmin(axis=0)
        found, place = bic.min(axis=0), (row, np.arange(len(values)))
        better = found < best[4]
        lows = low[place]
        candidates = np.array([middles[row], np.full(len(values), width), lows, lows + rise[place], found])
        best[:, better] = candidates[:, better]
    return [
        Change(middle, width, low, high, *_compared(level[last], line[last], bic))
        for last, (middle, width, low, high, bic) in enumerate(best.T.tolist())
    ]


def located(scores: ArrayLike, noise: ArrayLike = 0.0, per: int = 8) -> Located:
    """The best change in scores (n,), n ≥ 3, to 1 / `per` of a measurement, with intervals; `noise` as for `growing`.

    Intervals hold every middle, and every width, with which the sum of squares exceeds the least by at most 3.84 σ².
    """
    values = np.asarray(scores, float)
    sigma, counts = _sigma(values, noise)[-1], np.arange(1, len(values) + 1)
    middles = np.arange(1, per * (len(values) - 1)) / per
    fits = [
        (width, rest[:, -1], low[:, -1], rise[:, -1])
        for width, rest, low, rise in _changes(values, middles, _widths(len(values), per))
    ]
    widths, rest = np.array([width for width, *_ in fits]), np.array([found for _, found, *_ in fits]) / sigma**2
    bic = rest + np.where(widths > 0, 4, 3)[:, None] * math.log(len(values))
    which, place = np.unravel_index(bic.argmin(), bic.shape)
    inside = rest <= rest.min() + COVERED
    low, rise = float(fits[which][2][place]), float(fits[which][3][place])
    level, line = _plain_bic(values, np.full(len(values), sigma), counts)
    return Located(
        float(middles[place]),
        float(widths[which]),
        low,
        low + rise,
        *_compared(level[-1], line[-1], bic.min()),
        _reach(middles, inside.any(axis=0)),
        _reach(widths, inside.any(axis=1)),
    )


def _reach(grid: Values, inside: NDArray[np.bool_]) -> tuple[float, float]:
    """The ends of what is inside on a grid (n,): its neighbours, since the ends lie between the points."""
    found = np.flatnonzero(inside)
    return float(grid[max(found[0] - 1, 0)]), float(grid[min(found[-1] + 1, len(grid) - 1)])


def _sigma(values: Values, noise: ArrayLike) -> Values:
    """The deviation (n,) that counts with each number of measurements."""
    return np.maximum(np.maximum(np.asarray(noise, float), noise_of(values)), SMALLEST_NOISE)


def _widths(count: int, per: int) -> Values:
    """A step, and widths (w,) from one measurement to twice the curve, `per` of them for each doubling."""
    doublings = math.floor(per * math.log2(2 * count))
    return np.array([0.0, *(2 ** (number / per) for number in range(doublings + 1))])


def _compared(level: float, line: float, change: float) -> tuple[float, float]:
    """From three models' BIC: how much better a change is than the others, and how much worse a level is."""
    return float(min(level, line) - change), float(level - min(line, change))


def _plain_bic(values: Values, sigma: Values, counts: NDArray[np.int_]) -> tuple[Values, Values]:
    """BIC (n,) of a level and of a line for the first 1, 2, ..., n values."""
    level, _, _ = _least_squares(values, np.zeros_like(values))
    line, _, _ = _least_squares(values, np.arange(len(values), dtype=float))
    return level / sigma**2 + np.log(counts), line / sigma**2 + 2 * np.log(counts)


def _changes(values: Values, middles: Values, widths: Values) -> Iterator[tuple[float, Values, Values, Values]]:
    """For each width: the sums of squares that are left, low levels and rises, each (middles, n)."""
    distance = np.arange(len(values)) - middles[:, None]
    for width in widths.tolist():
        scaled = distance * WIDTHS_PER_SCALE / width if width else np.where(distance < 0, -np.inf, np.inf)
        with np.errstate(over="ignore"):
            rest, low, rise = _least_squares(values, 1 / (1 + np.exp(-scaled)))
        yield width, np.where(rise > 0, rest, np.inf), low, rise


def _least_squares(values: Values, shape: Values) -> tuple[Values, Values, Values]:
    """y = a + b x over the first 1, 2, ..., n values (n,) of y and x (..., n): the sums of squares left, a and b."""
    counts = np.arange(1, values.shape[-1] + 1)
    offset = values[0]
    y = values - offset
    sum_x, sum_y = shape.cumsum(axis=-1), y.cumsum(axis=-1)
    spread = (shape**2).cumsum(axis=-1) - sum_x**2 / counts
    shared = (shape * y).cumsum(axis=-1) - sum_x * sum_y / counts
    varies = spread > 1e-9 * counts
    slope = np.divide(shared, spread, out=np.zeros_like(spread), where=varies)
    total = (y**2).cumsum() - sum_y**2 / counts
    rest = np.maximum(total - slope * shared, 0.0)
    return rest, (sum_y - slope * sum_x) / counts + offset, slope
