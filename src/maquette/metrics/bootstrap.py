"""How sure a mean score is: the bootstrap over images (Efron 1979)."""

from collections.abc import Sequence

import numpy as np

DRAWS = 5000


def interval(scores: Sequence[float], share: float = 0.95) -> tuple[float, float]:
    """The interval that holds `share` of the means of resampled scores; NaN scores do not count.

    Always the same for the same scores. NaN twice if there is none.
    """
    values = np.asarray(scores, float)
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    rng = np.random.default_rng(0)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(DRAWS)]
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
