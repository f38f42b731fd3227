"""Without the package of the weights, whatever is bundled says in one sentence what to install."""

import importlib.util

import pytest

import maquette as mq
from maquette.checkpoints.names import bundled, check_weights, local_base, local_controlnet
from maquette.conditions.requirements import drawn_by
from maquette.errors import MaquetteError
from maquette.foundation import bundle


@pytest.fixture
def _code_alone(monkeypatch) -> None:
    installed = importlib.util.find_spec
    missing = {package.replace("-", "_") for package in bundle.PACKAGES.values()}
    monkeypatch.setattr(bundle, "find_spec", lambda name: None if name in missing else installed(name))


@pytest.mark.usefixtures("_code_alone")
@pytest.mark.parametrize(
    ("package", "load"),
    [
        ("maquette-diorama", lambda: mq.load_base("diorama")),
        ("maquette-diorama", lambda: local_base("diorama")),
        ("maquette-diorama", lambda: local_controlnet("diorama/canny")),
        ("maquette-diorama", lambda: check_weights("diorama/canny")),
        ("maquette-diorama", lambda: mq.detect("diorama/depth", mq.diorama.scene(1).image)),
        ("maquette-diorama-mmdit", lambda: mq.load_base("diorama-mmdit")),
        ("maquette-diorama-mmdit", lambda: local_base("diorama-mmdit/canny")),
        ("maquette-diorama-mmdit", lambda: local_controlnet("diorama-mmdit/canny")),
        ("maquette-diorama-mmdit", lambda: check_weights("diorama-mmdit/canny")),
    ],
)
def test_what_is_missing_is_said(package, load) -> None:
    with pytest.raises(MaquetteError, match=rf"pip install {package}\."):
        load()


@pytest.mark.usefixtures("_code_alone")
def test_nothing_is_bundled_with_the_code_alone() -> None:
    assert bundled() == {}


def test_both_bases_of_the_world_have_its_detectors() -> None:
    for base in bundle.PACKAGES:
        assert drawn_by("depth", base) == "diorama/depth"
        assert drawn_by("caption", base) == "diorama/caption"
    assert drawn_by("depth", "someone/else") == "depth"
