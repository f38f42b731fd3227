"""Resumed runs equal uninterrupted ones, and training trains what it should."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from tests.conftest import randomise, tiny_base

import maquette as mq
from maquette.checkpoints import load_controlnet
from maquette.conditions.networks.perception import PerceptionModel
from maquette.data.diorama import Pairs
from maquette.diorama import dataset
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.metrics.fidelity import SceneScorer
from maquette.training import checkpoint, stages, step
from maquette.training.checkpoint import states
from maquette.training.config import TrainingConfig
from maquette.training.monitor import convergence
from maquette.training.monitor.convergence import LEVELS, Monitor


@pytest.fixture
def base():
    return tiny_base("diorama", "v_prediction", context=96)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Configurations of a training that takes seconds, in a temporary folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dataset, "SHARD", 8)
    monkeypatch.setattr(convergence, "STEPS", 2)

    def make(**changes) -> TrainingConfig:
        settings = {
            "condition": "canny",
            "output": tmp_path / "run",
            "scenes": 8,
            "max_steps": 6,
            "batch_size": 2,
            "evaluate_every": 3,
            "held_out": 2,
            "checkpoint_every": 2,
            "warmup": 2,
            "cache_folder": tmp_path / "cache",
        }
        return TrainingConfig(**{**settings, **changes})

    return make


def weights(folder):
    return torch.load(states(folder)[-1], weights_only=True)["net"]


class CrashError(Exception):
    """Raised to end a run in the middle of a step."""


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_pose_training_uses_scenes_with_people(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(dataset, "SHARD", 8)
    pairs = Pairs.load("pose", range(16), tmp_path)
    people = [row for row in range(16) if pairs.ground_truth(row)[..., 2].any()]
    assert 0 < len(people) < 16
    assert pairs.telling().tolist() == people
    alone = Pairs("pose", range(1), pairs.captions[:1], pairs.images[:1], (np.zeros((1, 4, 18, 3)),))
    with pytest.raises(MaquetteError, match="None of the 1 scenes shows a person"):
        alone.telling()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_run_equals_an_uninterrupted_one_bitwise(base, config, tmp_path, monkeypatch, precision) -> None:
    whole = mq.train(config(output=tmp_path / "whole", precision=precision), base)
    calls = 0
    compute = step.loss

    def crash(*args):
        nonlocal calls
        calls += 1
        if calls == 6:  # in the sixth step, after the checkpoint at the fourth
            raise CrashError
        return compute(*args)

    monkeypatch.setattr(step, "loss", crash)
    broken = config(output=tmp_path / "broken", precision=precision)
    with pytest.raises(CrashError):
        mq.train(broken, base)
    monkeypatch.setattr(step, "loss", compute)
    again = mq.train(config(output=tmp_path / "broken", precision=precision, resume=True), base)
    first, second = weights(whole), weights(again)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for run in (whole, again):
        assert [line["step"] for line in lines(run) if "fidelity" in line] == [0, 3, 6]


def test_a_finished_run_has_all_its_files_and_leaves_the_base_unchanged(base, config) -> None:
    before = {name: value.clone() for name, value in base.backbone.unet.state_dict().items()}
    run = mq.train(config(), base)
    assert {"config.json", "diffusion_pytorch_model.safetensors", "training.json", "metrics.jsonl", "curve.png"} <= {
        entry.name for entry in run.iterdir()
    }
    assert len(list((run / "grids").iterdir())) == 3
    net = load_controlnet(run, base)
    assert any(conv.weight.abs().max() > 0 for conv in net.zero_convs)
    assert all(torch.equal(before[name], value) for name, value in base.backbone.unet.state_dict().items())
    assert TrainingConfig.load(run / "training.json") == config(learning_rate=1e-3)


def test_the_gain_is_the_reduction_of_the_loss_by_control(base, tmp_path, monkeypatch) -> None:
    """Exactly 0 before training, negative for random residuals; the network keeps its mode."""
    monkeypatch.setattr(dataset, "SHARD", 2)
    monitor = Monitor(base, Pairs.load("canny", range(2), tmp_path), range(2), None)
    net = mq.ControlNet.attach(base).train()
    assert {level: gain.gain for level, gain in monitor.gain(net).items()} == dict.fromkeys(LEVELS, 0.0)
    randomise(net)
    assert all(gain.gain < 0 for gain in monitor.gain(net).values())
    assert monitor.gain(net) == monitor.gain(net)
    assert net.training


@pytest.mark.parametrize("condition", ["segmentation", "depth", "normal", "pose"])  # that a network tells
def test_a_training_in_half_precision_is_scored_as_after_it(condition, base, tmp_path, monkeypatch) -> None:
    """Within its autocast, by detectors in their own precision: the same numbers as outside, to the last bit."""
    monkeypatch.setattr(convergence, "STEPS", 2)
    monkeypatch.setattr(dataset, "SHARD", 2)
    pairs, scorer, scored = Pairs.load(condition, range(2), tmp_path), SceneScorer(condition, PerceptionModel()), []

    def kept(images, truth) -> list[float]:
        scored.extend([images, truth])
        return scorer(images, truth)

    monitor = Monitor(base, pairs, range(2), kept)
    with step.precision("bfloat16", base):
        scores, _ = monitor.measure(mq.ControlNet.attach(base))
    np.testing.assert_array_equal(scores, scorer(*scored))


def test_the_monitor_starts_at_the_base(base, config) -> None:
    """Before the first step, the ControlNet has no effect, so two variants have the same fidelity."""
    run = mq.train(config(max_steps=1), base)
    other = mq.train(config(max_steps=1, variant="lite", output=run.parent / "lite"), base)
    assert lines(run)[0]["fidelity"] == lines(other)[0]["fidelity"]


def test_a_folder_with_a_run_is_not_overwritten(base, config) -> None:
    mq.train(config(max_steps=1), base)
    with pytest.raises(MaquetteError, match="holds a run already"):
        mq.train(config(max_steps=1), base)
    kept = (config().output / "training.json").rename(config().output / "moved.json")
    with pytest.raises(MaquetteError, match="holds a run already"):  # its checkpoints are still there
        mq.train(config(max_steps=1), base)
    kept.rename(config().output / "training.json")
    with pytest.raises(MaquetteError, match=r"other settings \(batch_size, learning_rate\)"):
        mq.train(config(max_steps=1, batch_size=3, learning_rate=2e-3, resume=True), base)


def test_an_extended_run_equals_an_uninterrupted_one(base, config, tmp_path) -> None:
    """Bitwise at a constant learning rate; with cosine decay, runs cannot be extended."""
    whole = mq.train(config(output=tmp_path / "whole"), base)
    mq.train(config(output=tmp_path / "parts", max_steps=3), base)
    parts = mq.train(config(output=tmp_path / "parts", resume=True), base)
    first, second = weights(whole), weights(parts)
    assert all(torch.equal(first[name], second[name]) for name in first)
    mq.train(config(output=tmp_path / "cosine", max_steps=3, decay="cosine"), base)
    with pytest.raises(MaquetteError, match=r"other settings \(max_steps\)"):
        mq.train(config(output=tmp_path / "cosine", decay="cosine", resume=True), base)
    with pytest.raises(MaquetteError, match="has done 6 steps already; max_steps is 6 or more, not 3"):
        mq.train(config(output=tmp_path / "parts", max_steps=3, resume=True), base)
    assert TrainingConfig.load(parts / "training.json").max_steps == 6


def test_a_checkpoint_of_version_0_1_is_refused(base, config, tmp_path) -> None:
    folder = mq.train(config(output=tmp_path / "old", max_steps=1), base)
    (path,) = checkpoint.states(folder)
    state = checkpoint.read(path)
    checkpoint.write(path, {**{name: part for name, part in state.items() if name != "optimizer"}, "optimiser": {}})
    with pytest.raises(
        MaquetteError, match=r"are of version 0\.1, which names weights differently; finish the run with it"
    ):
        mq.train(config(output=folder, max_steps=2, resume=True), base)


def test_a_run_with_settings_of_version_0_1_is_resumed(base, config, tmp_path) -> None:
    """Its settings are read with a warning."""
    off = {"evaluate_every": 0, "held_out": 16}
    whole = mq.train(config(output=tmp_path / "whole", **off), base)
    mq.train(config(output=tmp_path / "old", **off, max_steps=3), base)
    kept = tmp_path / "old" / "training.json"
    flat = {s.flat: value for s, value in TrainingConfig.load(kept).items()}
    kept.write_text(json.dumps(flat, default=str))
    with pytest.warns(MaquetteWarning, match=r"as version 0\.1 wrote them"):
        again = mq.train(config(output=tmp_path / "old", **off, resume=True), base)
    expected, found = weights(whole), weights(again)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_kill_before_the_first_state_measures_the_start_once(base, config, monkeypatch) -> None:
    def crash(*_: object) -> None:
        raise CrashError

    compute = step.loss
    monkeypatch.setattr(step, "loss", crash)
    with pytest.raises(CrashError):
        mq.train(config(), base)
    monkeypatch.setattr(step, "loss", compute)
    run = mq.train(config(resume=True), base)
    assert [line["step"] for line in lines(run) if "fidelity" in line] == [0, 3, 6]


def test_a_learning_rate_for_narrow_bases_warns_on_a_wide_one(base, config, monkeypatch) -> None:
    monkeypatch.setattr(stages, "WIDE", base.backbone.slots[0].channels)
    with pytest.warns(MaquetteWarning, match=r"0\.001 is made for narrow bases"):
        mq.train(config(max_steps=1, learning_rate=1e-3), base)


@pytest.mark.parametrize(("channels", "rate"), [(96, 1e-3), (319, 1e-3), (320, 1e-5), (1536, 1e-5), (3072, 1e-5)])
def test_the_default_learning_rate_follows_from_the_base(channels, rate) -> None:
    """Stable Diffusion's first block has 320 channels, the diorama's 96; transformers are wider."""
    assert stages.usual_learning_rate(channels) == rate


def test_the_learning_rate_taken_is_said_saved_and_resumed(base, config, monkeypatch, capsys) -> None:
    """Also by a run from before, which saved the default of then; another one is refused."""
    run = mq.train(config(max_steps=1, evaluate_every=0, held_out=16), base)
    assert "learning rate 0.001: the default for a base of 24 channels, less than" in capsys.readouterr().out
    assert TrainingConfig.load(run / "training.json").optimizer.learning_rate == 1e-3
    monkeypatch.setattr(stages, "WIDE", 24)
    with pytest.warns(MaquetteWarning, match="for narrow bases"):
        mq.train(config(max_steps=2, evaluate_every=0, held_out=16, resume=True), base)
    assert "learning rate 0.001, that of the run" in capsys.readouterr().out
    with pytest.raises(MaquetteError, match=r"other settings \(learning_rate\)"):
        mq.train(config(max_steps=3, evaluate_every=0, held_out=16, learning_rate=1e-5, resume=True), base)
    with pytest.raises(MaquetteError, match="learning_rate is above 0, not 0"):
        config(learning_rate=0)


def test_a_line_cut_off_by_a_kill_is_ignored(base, config) -> None:
    run = mq.train(config(max_steps=3), base)
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 4, "lo')
    assert [line["step"] for line in lines(mq.train(config(resume=True), base)) if "fidelity" in line] == [0, 3, 6]


def test_a_base_that_cannot_be_loaded_leaves_no_run(config) -> None:
    with pytest.raises(MaquetteError, match="There is no base 'nowhere'"):
        mq.train(config(base="nowhere"))
    assert not config().output.exists()


def test_output_may_be_a_text(config) -> None:
    assert config(output="runs/mine").output == Path("runs/mine")


def test_training_leaves_the_base_s_predictions_unchanged(base, config) -> None:
    z, text = torch.randn(1, 8, 16, 16), torch.randn(1, 5, base.backbone.text.width)
    before = base.predict(z, 3, text)
    mq.train(config(max_steps=1), base)
    assert torch.equal(base.predict(z, 3, text), before)


def test_scenes_are_rendered_from_a_script_without_a_guard(tmp_path, monkeypatch) -> None:
    """Processes that render do not import the caller's script again."""
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom maquette.diorama import dataset\n"
        "dataset.SHARD = 2\nprint('once')\n"
        "dataset.prepare(range(1, 3), Path('scenes'))\n"
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.count("once") == 1
    monkeypatch.setattr(dataset, "SHARD", 2)
    shards = [dataset._read(tmp_path / "scenes", start, "classes") for start in (0, 2)]
    assert [len(shard) for shard in shards] == [2, 2], "as large as the script has them"


def test_resuming_nothing_is_an_error(base, config) -> None:
    with pytest.raises(MaquetteError, match="There is no training in"):
        mq.train(config(resume=True), base)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_target_is_what_the_base_predicts(prediction) -> None:
    process = tiny_base("sd15", prediction).noise
    z, noise, t = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([10, 700])
    alpha = DDPMScheduler.from_config(process.config).alphas_cumprod[t].view(-1, 1, 1, 1)
    expected = noise if prediction == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * z
    assert torch.allclose(process.target(z, noise, t), expected, atol=1e-6)
