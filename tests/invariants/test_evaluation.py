"""An evaluation is fair: a ControlNet without effect scores as the base alone does."""

import json
from dataclasses import replace

import pytest
from tests.conftest import randomise, tiny_base
from typer.testing import CliRunner

import maquette as mq
from maquette.checkpoints.save import save_base
from maquette.cli.main import app
from maquette.controlnet.contract import Contract
from maquette.diorama import dataset
from maquette.errors import MaquetteError
from maquette.evaluation import controlnet as module
from maquette.evaluation.controlnet import Uncontrolled, evaluate_controlnet
from maquette.evaluation.protocol import PROMPTS, Protocol

PROTOCOL = Protocol(scenes=4, steps=1, batch_size=3)


@pytest.fixture(scope="module")
def base() -> mq.Base:
    base = tiny_base("diorama", "v_prediction", context=200)
    base.size = 256  # like Stable Diffusion's, not that of the scenes
    return base


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dataset, "SHARD", 4)


@pytest.mark.parametrize("condition", ["canny", "segmentation", "pose"])
def test_a_fresh_controlnet_scores_as_none(condition, base, tmp_path) -> None:
    report = evaluate_controlnet(mq.ControlNet.attach(base), condition, Uncontrolled(base, PROTOCOL))
    assert report.controlled == report.uncontrolled
    assert set(report.controlled) == set(PROMPTS)
    report.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["protocol"]["scenes"] == 4


def test_images_without_control_are_generated_once(base, monkeypatch) -> None:
    labels = []
    generate = module._generate
    monkeypatch.setattr(module, "_generate", lambda *args: labels.append(args[-1]) or generate(*args))
    uncontrolled = Uncontrolled(base, PROTOCOL)
    nets = [randomise(mq.ControlNet.attach(base, seed=seed)) for seed in (0, 1)]
    first, second = (evaluate_controlnet(net, "canny", uncontrolled) for net in nets)
    assert first.uncontrolled == second.uncontrolled
    assert first.controlled != second.controlled
    assert sum(label.startswith("no control") for label in labels) == len(PROMPTS)
    assert len(labels) == 3 * len(PROMPTS)


def test_a_table_without_a_ceiling(base) -> None:
    report = evaluate_controlnet(mq.ControlNet.attach(base), "canny", Uncontrolled(base, PROTOCOL))
    assert "| true | 0.500 | – |" in replace(report, ceiling=0.0, controlled=dict.fromkeys(PROMPTS, 0.5)).table()


def test_poses_need_a_person(base, monkeypatch) -> None:
    nobody = next(seed for seed in range(dataset.TEST, dataset.TEST + 99) if not len(mq.diorama.scene(seed).keypoints))
    monkeypatch.setattr(dataset, "TEST", nobody)
    with pytest.raises(MaquetteError, match="shows a person, which poses need; take more scenes"):
        evaluate_controlnet(mq.ControlNet.attach(base), "pose", Uncontrolled(base, replace(PROTOCOL, scenes=2)))


def test_the_command_reads_the_contract(tmp_path) -> None:
    """The condition and the base come from the ControlNet's contract."""
    save_base(tiny_base("diorama", "v_prediction", context=200), tmp_path / "base")
    net = mq.ControlNet.attach(mq.load_base(tmp_path / "base"))
    net.contract = Contract(stated=True, detector="diorama/scribble", base=str(tmp_path / "base"))
    net.save(tmp_path / "mine")
    arguments = ["evaluate", "mine", "--scenes", "4", "--steps", "1", "-o", "out"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "mine: stroke F1, 4 unseen scenes" in result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mine.json", "mine.png"}
    mq.ControlNet.attach(mq.load_base(tmp_path / "base")).save(tmp_path / "mute")
    with pytest.raises(MaquetteError, match="'mute' was trained on unknown maps"):
        CliRunner().invoke(app, ["evaluate", "mute"], catch_exceptions=False)
