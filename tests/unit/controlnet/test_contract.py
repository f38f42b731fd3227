import warnings

import pytest

from maquette.conditions.registry import detectors
from maquette.controlnet.contract import Contract
from maquette.errors import MaquetteWarning


@pytest.mark.parametrize(
    ("trained", "detector"),
    [
        ("diorama/canny", "canny"),  # made by the only detector of that name
        ("canny", "canny"),
        ("diorama/normal", "diorama/normal"),
        ("normal", "normal"),
        (None, "depth"),
        ("rings", "rings"),
    ],
)
def test_maps_that_it_was_trained_on_cause_no_warning(trained: str | None, detector: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Contract(stated=True, detector=trained).check_detector(detector, detectors)


@pytest.mark.parametrize(
    ("trained", "detector"), [("diorama/normal", "normal"), ("segmentation", "diorama/segmentation"), ("canny", "hed")]
)
def test_maps_of_another_detector_cause_a_warning(trained: str, detector: str) -> None:
    with pytest.warns(MaquetteWarning, match=f"maps of '{trained}' and is given '{detector}'"):
        Contract(stated=True, detector=trained).check_detector(detector, detectors)


def test_a_contract_of_version_0_1_is_read() -> None:
    assert Contract.from_json({"optimiser_steps": 500}).optimizer_steps == 500
