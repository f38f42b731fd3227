"""An evaluation is fair: a ControlNet without effect scores as the base alone does."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tests.conftest import randomise, tiny_base
from tests.own_pairs import write_pairs
from typer.testing import CliRunner

import maquette as mq
from maquette.checkpoints.save import save_base
from maquette.cli.main import app
from maquette.conditions import spec
from maquette.controlnet.contract import Contract
from maquette.diorama import dataset
from maquette.errors import MaquetteError
from maquette.evaluation import controlnet as module
from maquette.evaluation.controlnet import Uncontrolled, evaluate_controlnet
from maquette.evaluation.protocol import PROMPTS, Protocol
from maquette.training.monitor import metrics_log as monitor

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
    saved = json.loads((tmp_path / "report.json").read_text())
    assert saved["protocol"]["scenes"] == 4
    header, *rows = csv.reader((tmp_path / "report.csv").read_text().splitlines())
    assert header == ["unseen scenes", "prompt", "with control", "without", "text"] and len(rows) == 4 * len(PROMPTS)
    for kind in PROMPTS:
        mean = np.nanmean([float(score) for _, prompt, score, *_ in rows if prompt == kind])
        assert mean == pytest.approx(report.controlled[kind], abs=1e-5)
        low, high = (saved["intervals"][kind][end] for end in ("low", "high"))
        assert low <= mean + 1e-9 and mean - 1e-9 <= high


def test_images_without_control_are_generated_once(base, monkeypatch) -> None:
    labels = []
    generate = module.generated_from
    monkeypatch.setattr(module, "generated_from", lambda *args: labels.append(args[-1]) or generate(*args))
    uncontrolled = Uncontrolled(base, PROTOCOL)
    nets = [randomise(mq.ControlNet.attach(base, seed=seed)) for seed in (0, 1)]
    first, second = (evaluate_controlnet(net, "canny", uncontrolled) for net in nets)
    assert first.uncontrolled == second.uncontrolled
    assert first.controlled != second.controlled
    assert sum(label.startswith("no control") for label in labels) == len(PROMPTS)
    assert len(labels) == 3 * len(PROMPTS)


def test_a_table_without_a_ceiling(base) -> None:
    report = evaluate_controlnet(mq.ControlNet.attach(base), "canny", Uncontrolled(base, PROTOCOL))
    assert re.search(
        r"\| true \| 0\.500 \| .* to .* \| – \|",
        replace(report, ceiling=0.0, controlled=dict.fromkeys(PROMPTS, 0.5)).table(),
    )


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
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mine.json", "mine.csv", "mine.png"}
    mq.ControlNet.attach(mq.load_base(tmp_path / "base")).save(tmp_path / "mute")
    with pytest.raises(MaquetteError, match="'mute' was trained on unknown maps"):
        CliRunner().invoke(app, ["evaluate", "mute"], catch_exceptions=False)


def test_a_run_on_own_pairs_is_evaluated_on_those_it_held_out(settings, tmp_path) -> None:
    """With a registered detector and metric, by training and the command line alike."""
    save_base(tiny_base("sd15", context=200), tmp_path / "base")
    write_pairs(tmp_path / "pairs")
    mq.register_detector("halves", lambda image: image.convert("L").point(lambda level: 255 * (level > 127)), "halves")
    config = settings(condition="halves", base=str(tmp_path / "base"), held_out=5, detect=True)
    log = monitor.Log(mq.train(replace(config, output=tmp_path / "bare")), "halves")
    assert not any("fidelity" in line for line in log.lines())  # a detector without a metric

    @mq.register_metric("halves", "agreement")
    def agreement(found: Image.Image, expected: Image.Image) -> float:
        return float((np.asarray(found) == np.asarray(expected)).mean())

    run = mq.train(config)
    assert all(0 < line["fidelity"] < 1 for line in monitor.Log(run, "halves").lines() if "gain" in line)
    assert "agreement" in (run / "report.html").read_text()
    assert mq.load_controlnet(run, mq.load_base(tmp_path / "base")).contract.detector == "halves"
    result = CliRunner().invoke(app, ["evaluate", "run", "--steps", "1", "-o", "out"], catch_exceptions=False)
    assert "run: agreement, 5 held-out pairs: ceiling" in result.output
    header, *rows = csv.reader((tmp_path / "out" / "run.csv").read_text().splitlines())
    named = {row[0] for row in rows}
    assert header[0] == "held-out pairs" and len(named) == 5 and all("metadata.jsonl:" in name for name in named)
    mq.register_metric("halves")(lambda found, expected: 7)
    with pytest.raises(MaquetteError, match="a number from 0 to 1, or NaN; that of 'halves' returned 7"):
        CliRunner().invoke(app, ["evaluate", "run", "--steps", "1", "-o", "out"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"condition": "spirals"}, "'spirals' has no metric; register one for it"),
        ({"condition": "depth"}, "'depth' has no weights here; fetch them with: hf download"),
        ({"evaluate_every": 0, "condition": "softedge"}, "held out no pairs to evaluate on"),
    ],
)
def test_a_run_that_cannot_be_scored_says_why(settings, tmp_path, changes, message, monkeypatch) -> None:
    """Its training goes on, and says so too."""
    monkeypatch.setattr(spec, "is_cached", lambda published: False)
    base = tiny_base("sd15", context=200)
    save_base(base, tmp_path / "base")
    write_pairs(tmp_path / "pairs")
    mq.train(settings(base=str(tmp_path / "base"), max_steps=1, **changes), base)
    with pytest.raises(MaquetteError, match=message):
        CliRunner().invoke(app, ["evaluate", "run", "-o", "out"], catch_exceptions=False)
