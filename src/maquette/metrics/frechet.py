"""Fréchet distance between two sets of images, in the feature space of a network."""

import numpy as np
from numpy.typing import NDArray

from maquette.metrics.intervals import Interval, around, middle


def frechet_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """|μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of features (N, D) and (M, D) (Heusel et al. 2017, eq. 6).

    With the centred features A and B, the roots of the product's eigenvalues are the singular values of A Bᵀ over the
    root of (N − 1)(M − 1): nothing near 0 comes under a root, and singular covariances are no exception.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    difference = a.mean(axis=0) - b.mean(axis=0)
    spread_a, spread_b = _centred(a), _centred(b)
    traces = (spread_a**2).sum() + (spread_b**2).sum()
    root = np.linalg.svd(_condensed(spread_a) @ _condensed(spread_b).T, compute_uv=False).sum()
    return float(difference @ difference + traces - 2 * root)


def _centred(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows (N, D) less their mean, so scaled that their products of columns are the covariance (D, D)."""
    return np.asarray((rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1), np.float64)


def _condensed(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most D rows with the same products of columns as the rows (N, D) given."""
    return np.asarray(np.linalg.qr(rows, mode="r")) if len(rows) > rows.shape[1] else rows


FEW = 200  # draws: with fewer, the interval is that of a normal distribution


def frechet_interval(a: NDArray[np.floating], b: NDArray[np.floating], draws: int = FEW) -> Interval:
    """The distance of features (N, D) and (M, D), and its 95 % interval by bootstrap over both sets.

    Drawing with replacement adds to every distance, so the interval is shifted to have the distance at its mean.
    Fewer than 200 draws, as 2,048 features take seconds each, only tell the width.
    """
    rng = np.random.default_rng(0)
    drawn = np.array([frechet_distance(*(rng.choice(rows, len(rows)) for rows in (a, b))) for _ in range(draws)])
    distance = frechet_distance(a, b)
    if draws < FEW:
        return around(distance, drawn)
    return Interval(distance, *middle(drawn - drawn.mean() + distance))
