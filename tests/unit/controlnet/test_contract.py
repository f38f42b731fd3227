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


@pytest.mark.parametrize(
    ("detector", "resize", "order", "kind"),
    [
        ("diorama/canny", "none: drawn at the pictures' size", "frame, then detect", "lines"),
        ("diorama/segmentation", "none: drawn at the images' size", "frame, then detect", "classes"),
        ("depth", "none: drawn at the images' size", "frame, then detect", "smooth"),
        ("canny", "scaled to cover the frame, by Lanczos, and cut", None, "smooth"),  # as it was trained
        ("rings", "scaled to cover the frame, by the nearest pixel, and cut", None, "classes"),
        ("rings", "scaled to cover the frame, by Lanczos, and cut", None, "smooth"),
        (None, None, None, "smooth"),
    ],
)
def test_older_contracts_tell_order_and_kind_by_their_other_entries(detector, resize, order, kind) -> None:
    older = {"detector": detector, "resize": resize, "pooled": False}
    read = Contract.from_json({name: value for name, value in older.items() if value is not None})
    assert (read.order, read.kind) == (order, kind)


@pytest.mark.parametrize("order", ["frame, then detect", "detect, then resize", None])
@pytest.mark.parametrize("kind", ["classes", "lines", "smooth"])
def test_order_and_kind_survive_saving(order, kind) -> None:
    contract = Contract(
        stated=True, detector="canny", order=order, categorical=kind == "classes", lines=kind == "lines"
    )
    assert Contract.from_json(contract.to_json()) == contract
    assert contract.kind == kind
