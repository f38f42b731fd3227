"""Resumed = unbroken, cached = fresh, and training trains what it should."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import tiny_base

import maquette as mq
from maquette.checkpoints import load_controlnet
from maquette.diorama import dataset
from maquette.errors import MaquetteError
from maquette.foundation.images import to_signed
from maquette.training import loop
from maquette.training.cache import Cache
from maquette.training.config import TrainingConfig
from maquette.training.convergence import takes_hold
from maquette.training.step import noise_schedule, target


@pytest.fixture
def base():
    return tiny_base("diorama", "v_prediction", context=96)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A training of seconds, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dataset, "SHARD", 8)

    def make(**changes) -> TrainingConfig:
        settings = {
            "condition": "canny",
            "output": tmp_path / "run",
            "scenes": 8,
            "max_steps": 6,
            "batch_size": 2,
            "evaluate_every": 3,
            "evaluate_scenes": 2,
            "checkpoint_every": 2,
            "warmup": 2,
        }
        return TrainingConfig(**{**settings, **changes})

    return make


def weights(folder):
    return torch.load(folder / "state.pt", weights_only=True)["net"]


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("bfloat16", [False, True])
def test_resumed_is_unbroken_bitwise(base, config, tmp_path, monkeypatch, bfloat16) -> None:
    whole = mq.train(config(output=tmp_path / "whole", bfloat16=bfloat16), base)
    calls = 0
    compute = loop.step.loss

    def fall(*args):
        nonlocal calls
        calls += 1
        if calls == 6:  # in the sixth step, after the state of the fourth was saved
            raise KeyboardInterrupt
        return compute(*args)

    monkeypatch.setattr(loop.step, "loss", fall)
    broken = config(output=tmp_path / "broken", bfloat16=bfloat16)
    with pytest.raises(KeyboardInterrupt):
        mq.train(broken, base)
    monkeypatch.setattr(loop.step, "loss", compute)
    again = mq.train(config(output=tmp_path / "broken", bfloat16=bfloat16, resume=True), base)
    first, second = weights(whole), weights(again)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [[line["step"] for line in lines(run)] for run in (whole, again)] == [[0, 3, 6], [0, 3, 6]]


def test_a_finished_run_holds_what_it_promises(base, config) -> None:
    before = {name: value.clone() for name, value in base.backbone.unet.state_dict().items()}
    run = mq.train(config(), base)
    assert {"config.json", "diffusion_pytorch_model.safetensors", "training.json", "metrics.jsonl", "curve.png"} <= {
        entry.name for entry in run.iterdir()
    }
    assert len(list((run / "grids").iterdir())) == 3
    net = load_controlnet(run, base)
    assert any(connection.weight.abs().max() > 0 for connection in net.connections)
    assert all(torch.equal(before[name], value) for name, value in base.backbone.unet.state_dict().items())
    assert TrainingConfig.load(run / "training.json") == config()


def test_the_monitor_starts_at_the_base(base, config) -> None:
    """Before the first step the ControlNet changes nothing, so two fresh ones measure alike."""
    run = mq.train(config(max_steps=1), base)
    other = mq.train(config(max_steps=1, kind="lite", output=run.parent / "lite"), base)
    assert lines(run)[0]["fidelity"] == lines(other)[0]["fidelity"]


def test_a_folder_with_a_run_is_not_overwritten(base, config) -> None:
    mq.train(config(max_steps=1), base)
    with pytest.raises(MaquetteError, match="holds a run already"):
        mq.train(config(max_steps=1), base)
    with pytest.raises(MaquetteError, match=r"other settings \(batch_size, learning_rate\)"):
        mq.train(config(max_steps=1, batch_size=3, learning_rate=1e-3, resume=True), base)


def test_nothing_to_resume_is_said(base, config) -> None:
    with pytest.raises(MaquetteError, match="There is no training in"):
        mq.train(config(resume=True), base)


def test_all_problems_are_told_at_once(config) -> None:
    with pytest.raises(MaquetteError, match=r"batch_size is 1 or more, not 0; .*learning_rate is above 0.*prompt_drop"):
        config(batch_size=0, learning_rate=-1, prompt_drop=2)
    with pytest.raises(MaquetteError, match="did you mean 'canny'"):
        config(condition="cany")
    with pytest.raises(MaquetteError, match="no ControlNet kind 'zer'"):
        config(kind="zer")


def test_cached_is_fresh(base) -> None:
    """Cached latents are draws from the autoencoder's posterior, new ones every time; cached text is the text."""
    images = np.stack([np.asarray(mq.diorama.scene(seed).image) for seed in range(3)])
    cache = Cache.build(base, images, ["a", "b c", "a"])
    pixels = torch.stack([to_signed(Image.fromarray(image)) for image in images])
    posterior = base.autoencoder.encode(pixels).latent_dist
    rows = torch.tensor([2, 0])
    draws = torch.stack([cache.latents(rows, torch.Generator().manual_seed(s)) for s in range(400)])
    scale = base.autoencoder.config.scaling_factor
    assert torch.allclose(draws.mean(0), posterior.mean[rows] * scale, atol=0.25 * scale)
    assert torch.allclose(draws.std(0), posterior.std[rows] * scale, rtol=0.25, atol=1e-3)
    assert torch.equal(cache.latents(rows, torch.Generator().manual_seed(1)), draws[1])
    text = cache.text(rows, 0.0, torch.Generator())
    assert torch.allclose(text, base.encode_text(["a", "a"]).states, atol=1e-6)
    dropped = cache.text(rows, 1.0, torch.Generator())
    assert torch.allclose(dropped, base.encode_text(["", ""]).states, atol=1e-6)


def test_about_half_of_the_prompts_are_dropped(base) -> None:
    cache = Cache.build(base, np.zeros((1, 64, 64, 3), np.uint8), ["a"])
    rows = torch.zeros(1000, dtype=torch.long)
    text = cache.text(rows, 0.5, torch.Generator().manual_seed(0))
    assert 430 < sum(torch.equal(row, cache.empty[0]) for row in text) < 570


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_target_is_what_the_base_predicts(prediction) -> None:
    schedule = noise_schedule(tiny_base("sd15", prediction))
    z, noise, t = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([10, 700])
    alpha = schedule.alphas_cumprod[t].view(-1, 1, 1, 1)
    expected = noise if prediction == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * z
    assert torch.allclose(target(schedule, z, noise, t), expected, atol=1e-6)


def test_when_a_condition_takes_hold() -> None:
    steps = list(range(0, 900, 100))
    assert takes_hold(steps, [0.3, 0.31, 0.3, 0.29, 0.52, 0.6, 0.63, 0.62, 0.64]) == 400
    assert takes_hold(steps, [0.3, 0.31, 0.3, 0.29, 0.31, 0.3, 0.31, 0.32, 0.3]) is None
    assert takes_hold(steps[:2], [0.1, 0.9]) is None
    assert takes_hold(steps[:5], [0.3, 0.6, 0.3, 0.6, 0.7]) == 300  # a blip does not count
