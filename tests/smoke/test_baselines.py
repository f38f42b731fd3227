"""The recipe of the comparison methods as a command: it trains, goes on, and answers mistakes by a sentence."""

import sys

import pytest

import maquette as mq
from maquette.baselines.registry import load
from maquette.diorama import dataset
from maquette.recipes import baselines


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dataset, "SHARD", 8)

    def typed(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["baselines", *words])
        with pytest.raises(SystemExit) as ended:
            baselines.main()
        return str(ended.value)

    return typed


def test_the_command_trains_a_method_that_makes_pictures(run, tmp_path) -> None:
    few = ("--condition", "canny", "--steps", "2", "--batch-size", "2", "--scenes", "8")
    assert run("sketch-guided", *few) == "0"
    assert run("sketch-guided", *few) == "0"
    assert "began with steps = 2, not 3" in run("sketch-guided", *few[:2], "--steps", "3", *few[4:])
    method = load(tmp_path / "runs/baselines/sketch-guided", mq.load_base("diorama", "cpu", "float32"), until=0.1)
    edges = mq.detect("canny", mq.diorama.scene(7).image, low=50, high=120)
    assert method.pictures(["a red house"], [edges], [1])[0].size == (128, 128)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pity",), "no comparison method 'pity'"),
        (("ldm", "--condition", "canny"), "takes class maps"),
        (("piti", "--condition", "segments"), "no condition of the diorama 'segments'"),
        (("piti", "--steps", "0"), "steps"),
        (("base",), "learns nothing"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(run, words, said) -> None:
    assert said in run(*words, "--scenes", "8")
