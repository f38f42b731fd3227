"""The recipes of the embedded base at a tiny size: each runs and resumes, and the result is a base."""

from pathlib import Path

import pytest
import torch

import maquette as mq
from maquette.conditions.networks.perception import PerceptionModel
from maquette.diorama import dataset
from maquette.recipes.diorama import base, everything, report

pytestmark = pytest.mark.filterwarnings("ignore:unknown here")  # eight scenes do not have all words

SMALL = {"scenes": 8, "batch_size": 2}
TINY = {
    "autoencoder": {**SMALL, "held_out": 4, "steps": 2, "refine": 1},
    "decoder": {**SMALL, "held_out": 4, "steps": 2},
    "base": {**SMALL, "held_out": 4, "steps": 8, "stop": 0},
    "perception": {**SMALL, "steps": 2},
    "controlnet": {**SMALL, "max_steps": 2, "held_out": 2, "warmup": 1},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """All stages, a few steps each, published into a folder."""
    folder = tmp_path_factory.mktemp("recipes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(dataset, "SHARD", 8)
        patch.setitem(everything.PRESETS, "cpu", TINY)
        recipe = everything.Recipe(run=folder, target=folder / "weights", conditions="canny")
        everything.make(everything.Recipe(**{**vars(recipe), "conditions": ""}))
        everything.make(recipe)  # finished stages are skipped
    return folder


def test_the_published_model_is_a_base(run) -> None:
    trained = mq.load_base(run / "weights" / "base")
    assert trained.dtype == torch.float32
    assert len(trained.backbone.slots) == 13
    image = mq.generate(trained, "a red house", steps=2)[0]
    assert image.size == (128, 128)
    assert PerceptionModel(run / "weights" / "perception.safetensors").predict([image]).classes.shape == (1, 128, 128)


def test_the_controlnet_beside_it_steers_it(run) -> None:
    trained = mq.load_base(run / "weights" / "base")
    net = mq.load_controlnet(run / "weights" / "controlnets" / "canny", trained)
    condition = torch.rand(1, 3, 128, 128)
    plain, steered = (mq.generate(trained, "", controls, steps=2)[0] for controls in ([], [mq.Control(net, condition)]))
    assert plain.tobytes() != steered.tobytes()


def test_latents_are_normalised(run) -> None:
    """Each channel of the U-Net's latents has mean 0 and standard deviation 1."""
    trained = mq.load_base(run / "weights" / "base")
    latents = trained.encode_images([mq.diorama.scene(seed).image for seed in range(8)])
    assert torch.allclose(latents.mean(dim=(0, 2, 3)), torch.zeros(8), atol=0.1)
    assert torch.allclose(latents.std(dim=(0, 2, 3)), torch.ones(8), atol=0.1)


def test_a_resumed_training_equals_an_unbroken_one(run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(run)
    monkeypatch.setattr(dataset, "SHARD", 8)
    for part in ("vae", "tokenizer"):  # learning the same merges twice may break ties differently
        (tmp_path / part).symlink_to(run / part)
    for stop in (4, 0):
        base.train(base.Recipe(run=tmp_path, **{**TINY["base"], "stop": stop}))
    whole, parts = (torch.load(folder / "base.pt", weights_only=True) for folder in (tmp_path, run))
    assert all(torch.equal(whole["model"][name], parts["model"][name]) for name in whole["model"])
    assert all(torch.equal(whole["average"][name], parts["average"][name]) for name in whole["average"])


def test_the_report_gives_numbers_and_images(run, monkeypatch) -> None:
    monkeypatch.chdir(run)
    monkeypatch.setattr(dataset, "SHARD", 8)
    numbers = report.report(
        report.Recipe(
            output=run / "docs",
            images=4,
            judged=4,
            reconstructed=4,
            plain=1,
            steps=1,
            base=str(run / "weights" / "base"),
            eye=run / "weights" / "perception.safetensors",
        )
    )
    assert 0 <= numbers["coloured"].mean <= numbers["found"].mean <= 1
    assert 0 <= numbers["plain words coloured"].low <= numbers["plain words coloured"].high <= 1
    assert numbers["frechet"].mean > 0
    assert {"prompts.png", "reconstructions.png", "numbers.json"} == {entry.name for entry in (run / "docs").iterdir()}
