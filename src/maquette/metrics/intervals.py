"""Means with their uncertainty."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
COVERED = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def between(self, floor: float, ceiling: float) -> "Interval":
        """The same on the scale on which `floor` is 0 and `ceiling` is 1: (score - floor) / (ceiling - floor)."""
        return Interval(*((value - floor) / (ceiling - floor) for value in (self.mean, self.low, self.high)))


def bootstrap(values: NDArray[np.floating], draws: int = DRAWS) -> Interval:
    """The mean of independent values (N,), and the middle 95 % of the means of values drawn with replacement.

    NaN stands for what could not be scored, and is left out; all NaN gives NaN. Efron 1979, percentile bootstrap.
    """
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"))
    rows = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
    return Interval(float(values.mean()), *middle(values[rows].mean(axis=1)))


def middle(draws: NDArray[np.floating]) -> tuple[float, float]:
    """The ends of the middle 95 % of draws (N,)."""
    low, high = np.quantile(draws, (0.5 - COVERED / 2, 0.5 + COVERED / 2))
    return float(low), float(high)


def around(value: float, draws: NDArray[np.floating]) -> Interval:
    """A value of a whole set, and 1.96 deviations of its bootstrap draws (N,) to both sides.

    For values that drawing with replacement shifts, and for draws too few to read quantiles from.
    """
    reach = 1.96 * float(np.std(draws, ddof=1))
    return Interval(value, value - reach, value + reach)
