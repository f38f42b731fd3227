"""What an SD 2.x base in one file predicts can be said wherever a base is loaded, and is kept with what it made."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.unit.checkpoints.test_original import model, tokenizer, whole  # noqa: F401

import maquette as mq
from maquette.checkpoints.info import info
from maquette.checkpoints.original import stable_diffusion as original
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.formats.write import write_weights
from maquette.sampling.metadata import Record

OPTIONS = ("--base", "sd2.safetensors", "--steps", 2, "--size", "64x64", "--prompt", "a b")


@pytest.fixture
def file(tmp_path, tokenizer) -> Path:  # noqa: F811
    """A file that does not say it, and CLIP's tokenizer where the command line finds it."""
    write_weights(whole(model("sd2", tokenizer), "sd2"), tmp_path / "sd2.safetensors", {})
    shutil.copytree(tokenizer, tmp_path / original.TOKENIZER)
    return tmp_path / "sd2.safetensors"


@pytest.fixture
def small(monkeypatch) -> None:
    """SD 2.x of 64 pixels, so that an evaluation takes seconds."""
    version = replace(original.SD2, sample_sizes={"epsilon": 8, "v_prediction": 8})
    monkeypatch.setattr(original, "SD2", version)
    monkeypatch.setitem(original.VERSIONS, version.name, version)


def write_pair(folder: Path, name: str, image: Image.Image) -> None:
    folder.mkdir(exist_ok=True)
    image.save(folder / f"{name}.png")
    (folder / f"{name}.txt").write_text("a b")


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_an_image_and_its_record(maquette, file) -> None:
    code, _, err = maquette("generate", *OPTIONS, "-o", "none.png")
    assert (code, "does not say what it predicts" in err, "--prediction" in err) == (2, True, True)
    for prediction in ("epsilon", "v_prediction"):
        assert maquette("generate", *OPTIONS, "--prediction", prediction, "-o", f"{prediction}.png")[0] == 0
        python = mq.load_base(file, "cpu", "float32", prediction=prediction)
        wanted = mq.generate(python, "a b", steps=2, size=(64, 64))[0]
        assert np.array_equal(pixels(f"{prediction}.png"), np.asarray(wanted))
        mq.save(wanted, "python.png")
        for made in (f"{prediction}.png", "python.png"):
            code, _, err = maquette("generate", "--again", made, "-o", "again.png", "--overwrite")
            assert (code, "Note" in err) == (0, False), err
            assert np.array_equal(pixels("again.png"), pixels(made))
    assert not np.array_equal(pixels("epsilon.png"), pixels("v_prediction.png"))
    code, _, err = maquette("generate", "--again", "epsilon.png", "--set", "prediction=v_prediction")
    assert (code, "the base 'sd2.safetensors' has changed since" in err) == (2, True), err
    assert Record.load(Path("epsilon.png")).prediction == "epsilon"


def test_a_run_keeps_it(maquette, file, small) -> None:
    for seed in range(4):
        noise = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        write_pair(Path("pairs"), str(seed), Image.fromarray(noise))
    options = ("--max-steps", 1, "--batch-size", 1, "--evaluate-every", 1, "--held-out", 2, "--precision", "float32")
    data = ("pairs", "--condition", "canny", "--detect", "--size", 64, "--no-cache")
    line = ("train", *data, "--base", "sd2.safetensors", "--output", "run", *options)
    code, _, err = maquette(*line)
    assert (code, "does not say what it predicts" in err) == (2, True), err
    shutil.rmtree("run", ignore_errors=True)
    code, _, err = maquette(*line, "--prediction", "v_prediction")
    assert code == 0, err
    assert json.loads(Path("run/training.json").read_text())["prediction"] == "v_prediction"
    code, _, err = maquette("train", "pairs", "--output", "run", "--resume", "--max-steps", 2)
    assert code == 0, err
    code, _, err = maquette("train", "pairs", "--output", "run", "--resume", "--prediction", "epsilon")
    assert (code, "was started with other settings (prediction" in err) == (2, True), err
    report = ("--steps", 1, "-o", "report")
    code, _, err = maquette("evaluate", "run", *report)
    assert code == 0, err
    code, _, err = maquette("evaluate", "run", "--base", "sd2.safetensors", *report)
    assert (code, "does not say what it predicts" in err) == (2, True), err


def test_info_tells_it(file, maquette) -> None:
    assert "predicts    not told: epsilon" in info(file)
    assert "predicts    epsilon" in maquette("info", file, "--prediction", "epsilon")[1]
    assert "There is no prediction 'v'" in maquette("info", file, "--prediction", "v")[2]
    with pytest.raises(MaquetteError, match="There is no prediction 'sample'"):
        mq.load_base(file, prediction="sample")
    with pytest.raises(MaquetteError, match="says that it predicts 'v_prediction', not 'epsilon'"):
        info("diorama", "epsilon")
    assert "predicts    v_prediction" in info("diorama")
    with pytest.warns(MaquetteWarning, match="prediction has no effect: 'diorama/canny' is no base"):
        info("diorama/canny", "epsilon")


def test_data_cache_takes_it(maquette, file, tmp_path) -> None:
    write_pair(Path("pairs"), "a", Image.new("RGB", (64, 64), "red"))
    line = ("data", "cache", "pairs", "--base", "sd2.safetensors", "--size", 64, "--no-conditions", "--folder", "cache")
    assert "does not say what it predicts" in maquette(*line)[2]
    code, out, err = maquette(*line, "--prediction", "epsilon")
    assert (code, "1 views of 1 rows" in out) == (0, True), err


def test_a_base_of_ones_own_must_agree(file) -> None:
    base = mq.load_base(file, "cpu", "float32", prediction="epsilon")
    config = mq.TrainingConfig(condition="canny", output="run", prediction="v_prediction", max_steps=1)
    with pytest.raises(MaquetteError, match="predicts 'epsilon', not 'v_prediction'; leave prediction out"):
        mq.train(config, base)
