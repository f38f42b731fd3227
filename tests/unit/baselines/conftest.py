"""A tiny base and a few scenes, for every comparison method."""

from pathlib import Path

import pytest
from tests.conftest import tiny_base

from maquette.base import Base, Defaults
from maquette.baselines.protocol import Method
from maquette.baselines.registry import make
from maquette.data.diorama import Pairs
from maquette.diorama import dataset

TINY = {
    "piti": {"heads": 1, "layers": 1},
    "sketch-guided": {},
    "taming": {"channels": 4, "codes": 16, "heads": 1, "layers": 2, "top": 8},
    "ldm": {"width": 1, "channels": 3},
}
"""Settings of every method that learns."""

CONDITION = {"piti": "segmentation", "sketch-guided": "canny", "taming": "segmentation", "ldm": "segmentation"}


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> dict[str, Pairs]:
    """Eight scenes by condition."""
    folder: Path = tmp_path_factory.mktemp("scenes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "SHARD", 8)
        return {name: Pairs.load(name, range(8), folder) for name in ("segmentation", "canny")}


@pytest.fixture(scope="session")
def base() -> Base:
    base = tiny_base("diorama", "v_prediction", context=96)
    base.defaults = Defaults(steps=4, guidance=2.0, sampler="ddim")
    return base


def tiny(name: str, base: Base, **more: float) -> Method:
    """An untrained method, as small as it goes."""
    return make(name, base, CONDITION[name], **{**TINY[name], **more})
