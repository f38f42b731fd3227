"""What a speed costs is read from measurements as arithmetic says."""

import numpy as np
import pytest
import torch

from maquette.metrics.frechet import frechet_distance
from maquette.recipes.speed.compare import compared
from maquette.recipes.speed.measure import CONDITIONS, path_of
from maquette.recipes.speed.report import by_condition, table

SCENES = 40


def measured(run, condition: str, lever: str, scenes: int = SCENES, **others: np.ndarray) -> dict[str, np.ndarray]:
    """Random measurements of a lever, in its file; equal ones for the same condition and number."""
    rng = np.random.default_rng(CONDITIONS.index(condition))
    values = {
        "fidelity": rng.random(SCENES),
        "alignment": np.ones(SCENES),
        "features": rng.random((SCENES, 4)),
        "true": rng.random((SCENES, 4)),
        "pixels": rng.integers(0, 200, (SCENES, 2, 2, 3)).astype(np.uint8),
    }
    values |= others
    run.mkdir(exist_ok=True)
    found = {name: value[:scenes] for name, value in values.items()}
    torch.save({name: torch.from_numpy(value) for name, value in found.items()}, path_of(run, condition, lever))
    return found


def test_differences_are_of_the_same_scenes(tmp_path) -> None:
    for condition, gain in (("canny", 0.1), ("pose", 0.3)):
        exact = measured(tmp_path, condition, "exact")
        scenes = 30 if condition == "pose" else SCENES
        better, brighter = exact["fidelity"] + gain, exact["pixels"] + np.uint8(51)  # a fifth of the range
        measured(tmp_path, condition, "balanced", scenes, fidelity=better, pixels=brighter)
    found = compared(tmp_path, "balanced")
    assert found["images"] == {"canny": 40, "pose": 30}
    assert found["psnr"] == pytest.approx(-20 * np.log10(0.2), rel=1e-5)
    assert found["fidelity"]["difference"]["mean"] == pytest.approx((30 * 0.2 + 10 * 0.1) / 40)  # by scene
    assert found["alignment"]["difference"] == {"mean": 0, "low": 0, "high": 0}
    assert found["conditions"]["pose"]["difference"]["mean"] == pytest.approx(0.3)
    assert found["frechet"]["difference"] == {"mean": 0, "low": 0, "high": 0}


def test_an_interval_is_as_wide_as_the_number_of_scenes_says(tmp_path) -> None:
    """Six conditions on the same scenes, which all change alike, are no more evidence than one."""
    change = np.random.default_rng(9).normal(size=SCENES)
    for condition in CONDITIONS:
        exact = measured(tmp_path, condition, "exact")
        measured(tmp_path, condition, "draft", fidelity=exact["fidelity"] + change)
    found = compared(tmp_path, "draft")
    for difference in (found["fidelity"]["difference"], found["conditions"]["canny"]["difference"]):
        width = difference["high"] - difference["low"]
        assert width == pytest.approx(2 * 1.96 * change.std() / np.sqrt(SCENES), rel=0.1)


def test_the_frechet_distance_is_that_of_all_images(tmp_path) -> None:
    exact = [measured(tmp_path, name, "exact") for name in ("canny", "depth")]
    for name, one in zip(("canny", "depth"), exact, strict=True):
        measured(tmp_path, name, "draft", features=one["features"] + 1)
    plain, true = (np.concatenate([one[name] for one in exact]) for name in ("features", "true"))
    found = compared(tmp_path, "draft")["frechet"]
    assert found["value"] == pytest.approx(frechet_distance(plain + 1, true))
    assert found["difference"]["mean"] == pytest.approx(found["value"] - frechet_distance(plain, true))
    assert found["difference"]["low"] < found["difference"]["mean"] < found["difference"]["high"]


def test_what_could_not_be_scored_is_left_out(tmp_path) -> None:
    exact = measured(tmp_path, "pose", "exact")
    fidelity = np.where(np.arange(SCENES) < 10, np.nan, exact["fidelity"] - 0.1)
    measured(tmp_path, "pose", "draft", fidelity=fidelity)
    found = compared(tmp_path, "draft")["fidelity"]
    assert found["difference"]["mean"] == pytest.approx(-0.1)
    assert found["value"] == pytest.approx(fidelity[10:].mean())


def test_tables_name_what_was_measured(tmp_path) -> None:
    for condition in CONDITIONS:
        for lever in ("exact", "draft"):
            measured(tmp_path, condition, lever)
    measured(tmp_path, "canny", "reuse 2")
    numbers = {lever: {"times as fast": 2.0, **compared(tmp_path, lever)} for lever in ("exact", "draft", "reuse 2")}
    assert "| reuse 2 | 2.00 | 40 canny |" in table(numbers)
    assert "| draft | 2.00 | 240 with 6 nets |" in table(numbers)
    lines = by_condition(numbers).splitlines()
    assert lines[0] == "| fidelity | scenes | exact | draft |"
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == list(CONDITIONS)
