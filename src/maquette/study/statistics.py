"""What a study's answers say: averages over raters, agreement between them, and whether right answers are luck."""

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from maquette.metrics.intervals import Interval, bootstrap


@dataclass(frozen=True)
class Average:
    """The mean over raters, their standard deviation (that of a sample), and the mean's 95 % interval.

    The deviation and the interval are NaN for a single rater, who cannot tell how much raters differ.
    """

    mean: float
    deviation: float
    interval: Interval

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> "Average":
        """Of one value for each rater (R,); NaN is left out. The interval is by bootstrap over raters."""
        values = values[~np.isnan(values)]
        if len(values) < 2:
            mean = float(values.mean()) if len(values) else math.nan
            return cls(mean, math.nan, Interval(mean, math.nan, math.nan))
        return cls(float(values.mean()), float(values.std(ddof=1)), bootstrap(values))

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if math.isnan(self.deviation) else f"{self.mean:.2f} ± {self.deviation:.2f}"

    def values(self) -> dict[str, float]:
        """For JSON."""
        return {**asdict(self.interval), "deviation": self.deviation}

    @property
    def bounds(self) -> str:
        """The interval in words."""
        return bounds(self.interval)


def bounds(interval: Interval) -> str:
    """An interval in words: "3.98 to 4.46"."""
    return "–" if math.isnan(interval.low) else f"{interval.low:.2f} to {interval.high:.2f}"


def kendalls_w(ranks: NDArray[np.floating]) -> float:
    """Agreement of m raters who ranked n things without ties: 1 if all agree, 1/m on average if all guess.

    W = 12 S / (m² (n³ - n)), where S is the sum of squares of the things' rank sums about their mean. Kendall and
    Babington Smith, The problem of m rankings, 1939.

    Args:
        ranks: (m, n), each row a permutation of 1 to n.
    """
    raters, things = ranks.shape
    sums = ranks.sum(axis=0)
    return float(12 * ((sums - sums.mean()) ** 2).sum() / (raters**2 * (things**3 - things)))


def binomial_p(right: int, asked: int) -> float:
    """The probability that guessing, right half of the time, is at least as far from half right: exact, two-sided."""
    far = max(right, asked - right)
    if 2 * far == asked:
        return 1.0
    return 2 * sum(math.comb(asked, count) for count in range(far, asked + 1)) / 2**asked
