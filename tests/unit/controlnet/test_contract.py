import warnings

import pytest

from maquette.conditions.registry import detectors
from maquette.controlnet.contract import Contract
from maquette.errors import MaquetteWarning


@pytest.mark.parametrize(
    ("trained", "given"),
    [
        ("diorama/canny", "canny"),  # drawn by the one detector of that name
        ("canny", "canny"),
        ("diorama/normal", "diorama/normal"),
        ("normal", "normal"),
        (None, "depth"),
        ("rings", "rings"),
    ],
)
def test_maps_that_it_was_trained_on_are_taken(trained: str | None, given: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Contract(stated=True, detector=trained).check_detector(given, detectors)


@pytest.mark.parametrize(
    ("trained", "given"), [("diorama/normal", "normal"), ("segmentation", "diorama/segmentation"), ("canny", "hed")]
)
def test_others_are_named(trained: str, given: str) -> None:
    with pytest.warns(MaquetteWarning, match=f"maps of '{trained}' and is given '{given}'"):
        Contract(stated=True, detector=trained).check_detector(given, detectors)


def test_a_contract_of_version_0_1_is_read() -> None:
    assert Contract.from_json({"optimiser_steps": 500}).optimizer_steps == 500
