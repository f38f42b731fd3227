"""Without the package of the weights, whatever is bundled says in one sentence what to install."""

import importlib.util

import pytest

import maquette as mq
from maquette.checkpoints.names import bundled, check_weights, local_base, local_controlnet
from maquette.errors import MaquetteError
from maquette.foundation import bundle


@pytest.fixture
def _code_alone(monkeypatch) -> None:
    installed = importlib.util.find_spec
    monkeypatch.setattr(bundle, "find_spec", lambda name: None if name == "maquette_diorama" else installed(name))


@pytest.mark.usefixtures("_code_alone")
@pytest.mark.parametrize(
    "load",
    [
        lambda: mq.load_base("diorama"),
        lambda: local_base("diorama"),
        lambda: local_controlnet("diorama/canny"),
        lambda: check_weights("diorama/canny"),
        lambda: mq.detect("diorama/depth", mq.diorama.scene(1).image),
    ],
)
def test_what_is_missing_is_said(load) -> None:
    with pytest.raises(MaquetteError, match="pip install maquette-diorama"):
        load()


@pytest.mark.usefixtures("_code_alone")
def test_nothing_is_bundled_with_the_code_alone() -> None:
    assert bundled() == {}
