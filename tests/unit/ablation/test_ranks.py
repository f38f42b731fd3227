"""Ranks by machine, against scipy's."""

import numpy as np
import pytest

from maquette.ablation.studies.methods import nearest, ranks

scipy_stats = pytest.importorskip("scipy.stats")


def test_ranks_and_ties() -> None:
    scores = np.random.default_rng(0).integers(0, 4, (5, 40)).astype(float)
    assert np.array_equal(ranks(scores), scipy_stats.rankdata(scores, axis=0))


def test_the_nearest_row() -> None:
    rng = np.random.default_rng(0)
    features, real = rng.normal(size=(7, 16)), rng.normal(size=(9, 16))
    by_hand = [min(np.linalg.norm(one - other) for other in real) for one in features]
    assert np.allclose(nearest(features, real), by_hand)
