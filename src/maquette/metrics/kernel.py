"""Kernel distance between two sets of images in the feature space of a network: unbiased at any size of the sets."""

import numpy as np
from numpy.typing import NDArray

from maquette.metrics.intervals import Interval, around

DEGREE = 3  # of the polynomial kernel, as in KID


def kernel_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Squared maximum mean discrepancy of features (N, D) and (M, D), unbiased: 0 on average for equal distributions.

    The kernel is (x·y / D + 1)³ (Bińkowski et al. 2018, KID). The published code averages the same estimate over random
    subsets; over all pairs it has the same expectation and a smaller deviation.
    """
    return _discrepancy(*_kernels(a, b), np.ones(len(a)), np.ones(len(b)))


def kernel_interval(a: NDArray[np.floating], b: NDArray[np.floating], draws: int = 200) -> Interval:
    """The distance of features (N, D) and (M, D), and its 95 % interval by bootstrap over both sets."""
    rng = np.random.default_rng(0)
    kernels = _kernels(a, b)
    drawn = [_discrepancy(*kernels, *(_weights(len(rows), rng) for rows in (a, b))) for _ in range(draws)]
    return around(kernel_distance(a, b), np.array(drawn))


def _weights(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each of `count` rows (N,) comes in a sample of as many with replacement."""
    return np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float64)


Kernel = NDArray[np.float64]


def _kernels(a: NDArray[np.floating], b: NDArray[np.floating]) -> tuple[Kernel, Kernel, Kernel]:
    """The kernel of all pairs within a (N, D), within b (M, D) and between them; 0 for a row with itself."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    within_a, within_b, between = ((x @ y.T / a.shape[1] + 1) ** DEGREE for x, y in ((a, a), (b, b), (a, b)))
    np.fill_diagonal(within_a, 0)
    np.fill_diagonal(within_b, 0)
    return within_a, within_b, between


def _discrepancy(
    within_a: Kernel, within_b: Kernel, between: Kernel, u: NDArray[np.float64], v: NDArray[np.float64]
) -> float:
    """The distance for rows that count u (N,) and v (M,) times; a row is not compared with its own copies."""
    inside = sum(w @ kernel @ w / (w.sum() ** 2 - w @ w) for kernel, w in ((within_a, u), (within_b, v)))
    return float(inside - 2 * (u @ between @ v) / (u.sum() * v.sum()))
