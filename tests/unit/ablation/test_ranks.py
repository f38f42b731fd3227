"""Ranks by machine, against scipy's; and which methods are ranked."""

from pathlib import Path

import numpy as np
import pytest

from maquette.ablation.request import Request
from maquette.ablation.studies.methods import methods_for, nearest, ranks
from maquette.errors import MaquetteError

scipy_stats = pytest.importorskip("scipy.stats")


def test_ranks_and_ties() -> None:
    scores = np.random.default_rng(0).integers(0, 4, (5, 40)).astype(float)
    assert np.array_equal(ranks(scores), scipy_stats.rankdata(scores, axis=0))


def test_the_nearest_row() -> None:
    rng = np.random.default_rng(0)
    features, real = rng.normal(size=(7, 16)), rng.normal(size=(9, 16))
    by_hand = [min(np.linalg.norm(one - other) for other in real) for one in features]
    assert np.allclose(nearest(features, real), by_hand)


def test_methods_are_those_asked_for_that_take_the_condition() -> None:
    """Sketch-Guided Diffusion takes edges, Taming Transformers class maps."""
    asked = Request("methods", Path("out"), methods=("lite", "taming", "sketch-guided"))
    assert methods_for("canny", asked) == ["sketch-guided", "lite"]
    assert methods_for("segmentation", asked) == ["taming", "lite"]
    with pytest.raises(MaquetteError, match="None of the methods taming takes canny"):
        methods_for("canny", Request("methods", Path("out"), methods=("taming",)))
