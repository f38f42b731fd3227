"""Fréchet distance between two sets of images, in the feature space of a network."""

import numpy as np
from numpy.typing import NDArray

from maquette.metrics.intervals import Interval, middle


def frechet_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """|μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of features (N, D) and (M, D) (Heusel et al. 2017, eq. 6).

    The trace of the root is the sum of the roots of the product's eigenvalues, which are real and non-negative up to
    rounding.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    difference = a.mean(axis=0) - b.mean(axis=0)
    covariance_a, covariance_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    eigenvalues = np.linalg.eigvals(covariance_a @ covariance_b)
    root = np.sqrt(np.maximum(eigenvalues.real, 0)).sum()
    return float(difference @ difference + np.trace(covariance_a) + np.trace(covariance_b) - 2 * root)


def frechet_interval(a: NDArray[np.floating], b: NDArray[np.floating], draws: int = 200) -> Interval:
    """The distance of features (N, D) and (M, D), and its 95 % interval by bootstrap over both sets.

    Drawing with replacement adds to every distance, so the interval is shifted to have the distance at its mean.
    """
    rng = np.random.default_rng(0)
    drawn = np.array([frechet_distance(*(rng.choice(rows, len(rows)) for rows in (a, b))) for _ in range(draws)])
    distance = frechet_distance(a, b)
    return Interval(distance, *middle(drawn - drawn.mean() + distance))
