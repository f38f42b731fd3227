"""Training options: each does what it promises."""

from dataclasses import replace
from importlib.metadata import version

import pytest
import torch
from PIL import Image
from tests.conftest import tiny_base
from tests.own_pairs import apart, weights, write_pairs
from tests.tiny_sd3 import tiny_sd3
from typer.testing import CliRunner

import maquette as mq
from maquette.cli.main import app
from maquette.data.diorama import CONDITIONS
from maquette.diorama import dataset
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.training import checkpoint
from maquette.training.data.split import open_data
from maquette.training.distributed.world import World


def test_sdxl_trains_with_pooled_text_and_size_conditioning(settings, tmp_path) -> None:
    """Size conditioning follows the training size, with and without the cache."""
    write_pairs(tmp_path / "pairs")
    base = tiny_base("sdxl", context=96)
    runs = [
        mq.train(settings(cache=cache, output=tmp_path / str(cache), evaluate_every=2), base) for cache in (True, False)
    ]
    start = mq.ControlNet.attach(base).state_dict()
    assert apart(*map(weights, runs), start) < 3e-3


@pytest.mark.parametrize(
    "changes", [{"variant": "lite"}, {"min_snr": 5.0, "condition_drop": 0.5}, {"precision": "bfloat16"}]
)
def test_options_run_and_learn(settings, tmp_path, changes) -> None:
    write_pairs(tmp_path / "pairs")
    base = tiny_base("sd15", context=96)
    plain = mq.train(settings(evaluate_every=0, output=tmp_path / "plain"), base)
    run = mq.train(settings(evaluate_every=0, **changes), base)
    slot = "zero_convs.12.weight"
    assert weights(run)[slot].any() and not torch.equal(weights(run)[slot], weights(plain)[slot])


def test_muon_moves_the_matrices_of_the_copy_along_all_their_directions(settings, tmp_path) -> None:
    """By about the learning rate / 0.04, all else by AdamW at the learning rate; resumed, by the same bits."""
    write_pairs(tmp_path / "pairs")
    base = tiny_base("sd15", context=96)
    config = settings(optimizer_name="muon", evaluate_every=0, max_steps=3, checkpoint_every=1)
    whole = mq.train(config, base)
    parts = replace(config, output=tmp_path / "parts")
    mq.train(replace(parts, max_steps=2), base)
    before = weights(tmp_path / "parts")
    mq.train(replace(parts, resume=True), base)
    after = weights(whole)
    assert all(torch.equal(value, after[name]) for name, value in weights(tmp_path / "parts").items())
    name = "trainable_copy.down_blocks.0.resnets.0.conv1.weight"
    moved = torch.linalg.svdvals((after[name] - before[name]).flatten(1))
    assert moved.min() > 0.5 * 1e-3 / 0.04 and moved.max() < 1.5 * 1e-3 / 0.04
    assert (after["zero_convs.12.weight"] - before["zero_convs.12.weight"]).abs().max() < 2e-3
    with pytest.raises(MaquetteError, match="unlock needs another optimizer"):
        settings(optimizer_name="muon", unlock="decoder")


@pytest.mark.parametrize(
    ("make", "last"),
    [
        (lambda: tiny_base("sd15", context=96), "up_blocks.3.resnets.0.conv1.weight"),
        (lambda: tiny_sd3(t5=False, context=96), "transformer_blocks.3.attn.to_q.weight"),
    ],
)
def test_added_channels_learn_in_all_of_the_base(make, last, settings, tmp_path) -> None:
    """Evaluated while it trains, and saved as what the training ended with."""
    write_pairs(tmp_path / "pairs")
    base = make()
    run = mq.train(settings(variant="channels", evaluate_every=2), base)
    assert weights(run)["condition_encoder.conv_out.weight"].any()
    of_base = base.backbone.network.state_dict()[last]
    assert not torch.equal(weights(run)[f"trainable_copy.{last}"], of_base)
    kept = mq.load_controlnet(run, base).state_dict()
    assert all(torch.equal(kept[name], value) for name, value in weights(run).items())


def test_states_on_the_way_are_those_of_shorter_trainings(settings, tmp_path) -> None:
    """Also where the run was resumed; and what is trained does not depend on them."""
    write_pairs(tmp_path / "pairs")
    base = tiny_base("sd15", context=96)
    plain = settings(evaluate_every=0, output=tmp_path / "plain", max_steps=5)
    two, five = (mq.train(replace(plain, output=tmp_path / str(steps), max_steps=steps), base) for steps in (2, 5))
    kept = settings(evaluate_every=0, keep_every=2, max_steps=3)
    mq.train(kept, base)
    run = mq.train(replace(kept, max_steps=5, resume=True), base)
    assert sorted(path.name for path in (run / "states").iterdir()) == ["2", "4"]
    for shorter, state in ((two, run / "states" / "2"), (five, run)):
        expected, found = (mq.load_controlnet(str(folder), base) for folder in (shorter, state))
        assert all(torch.equal(value, found.state_dict()[name]) for name, value in expected.state_dict().items())
        assert found.contract == expected.contract and found.contract.stated


def test_control_in_context_learns_and_the_base_does_not(settings, tmp_path) -> None:
    """Resumed, by the same bits."""
    write_pairs(tmp_path / "pairs")
    base = tiny_sd3(t5=False, context=96)
    before = {name: value.clone() for name, value in base.backbone.network.state_dict().items()}
    config = settings(variant="context", evaluate_every=2, optimizer_name="muon", max_steps=4, checkpoint_every=1)
    whole = mq.train(config, base)
    parts = replace(config, output=tmp_path / "parts")
    mq.train(replace(parts, max_steps=2), base)
    mq.train(replace(parts, resume=True), base)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(tmp_path / "parts").items())
    last = "trainable_copy.transformer_blocks.3.attn"
    assert weights(whole)[f"{last}.gate"].any() and weights(whole)[f"{last}.to_v.lora_B.weight"].any()
    assert all(torch.equal(value, before[name]) for name, value in base.backbone.network.state_dict().items())


def test_the_ema_is_evaluated_and_saved(settings, tmp_path) -> None:
    write_pairs(tmp_path / "pairs")
    base = tiny_base("sd15", context=96)
    run = mq.train(settings(ema=0.9, evaluate_every=0), base)
    average = checkpoint.read(checkpoint.states(run)[-1])["average"]
    kept = mq.load_controlnet(run, base).state_dict()
    assert all(torch.equal(kept[name], average[f"module.{name}"]) for name in kept)
    assert not torch.equal(kept["zero_convs.12.weight"], weights(run)["zero_convs.12.weight"])


def test_metrics_go_to_a_tracker(settings, tmp_path) -> None:
    pytest.importorskip("tensorboard")
    write_pairs(tmp_path / "pairs")
    run = mq.train(settings(track="tensorboard"), tiny_base("sd15", context=96))
    assert list(run.rglob("events.out.tfevents.*"))


def test_an_unknown_tracker_is_an_error(settings, tmp_path) -> None:
    write_pairs(tmp_path / "pairs")
    with pytest.raises(MaquetteError, match=r"track is one of .*, not 'paper'"):
        mq.train(settings(track="paper"), tiny_base("sd15", context=96))


def test_a_cache_can_be_computed_beforehand(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "pairs", count=3)
    command = ["data", "cache", "pairs", "--size", "64", "--flip", "--folder", "kept"]
    done = CliRunner().invoke(app, command)
    assert "6 views of 3 rows are cached in kept/cache.sqlite" in done.output


def test_drawn_options_depend_on_seed_step_and_place_alone(settings, tmp_path) -> None:
    """A run that was interrupted, one with workers and one in parts see the same maps as a plain one."""
    write_pairs(tmp_path / "pairs")
    base = tiny_base("sd15", context=96)
    own = {
        "condition": "scribble",
        "detect": True,
        "detect_options": {"source": "choice(softedge, edges)", "width": "uniform(2, 4)"},
        "evaluate_every": 0,
    }
    plain = mq.train(settings(output=tmp_path / "plain", **own), base)
    mq.train(settings(max_steps=2, **own), base)
    resumed = mq.train(settings(resume=True, **own), base)
    loaded = mq.train(settings(output=tmp_path / "workers", workers=2, **own), base)
    parts = mq.train(settings(output=tmp_path / "parts", accumulation=2, **own), base)
    expected = weights(plain)
    for run in (resumed, loaded):
        found = weights(run)
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert apart(expected, weights(parts), mq.ControlNet.attach(base).state_dict()) < 3e-3
    with pytest.raises(MaquetteError, match=r"was started with other settings \(detect_options\)"):
        mq.train(settings(resume=True, **{**own, "detect_options": {"width": 4}}), base)
    contract = mq.load_controlnet(plain, base).contract
    assert contract.detector == "scribble"
    assert contract.detector_version == f"maquette {version('maquette')}"
    assert contract.detector_options == (
        "width = uniform(2, 4), source = choice(softedge, edges), a seed for each image"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "softedge"}, "source = softedge, a seed for each image"),
        (None, CONDITIONS["scribble"].words),
    ],
)
def test_the_diorama_can_be_trained_with_the_papers_scribbles(tmp_path, monkeypatch, options, words) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dataset, "SHARD", 8)
    base = tiny_base("diorama", "v_prediction", context=96)
    run = mq.train(
        mq.TrainingConfig(
            condition="scribble", output="run", scenes=8, max_steps=2, batch_size=2, evaluate_every=0, cache=False,
            precision="float32", detect_options=options,
        ),
        base,
    )  # fmt: skip
    contract = mq.load_controlnet(run, base).contract
    assert (contract.detector, contract.detector_options) == ("diorama/scribble", words)


def test_pairs_without_people_are_not_held_out_for_poses(settings, tmp_path) -> None:
    folder = write_pairs(tmp_path / "pairs")
    for number in (0, 3, 5, 6, 8, 9):
        Image.new("RGB", (96, 64)).save(folder / "maps" / f"{number}.png")
    config = settings(condition="pose", held_out=4)
    base = tiny_base("sd15", context=96)
    with pytest.warns(MaquetteWarning, match="of the .* pairs read for evaluation have a black pose map, of nobody"):
        data = open_data(config, base, World("cpu"))
    assert len(data.held_out) == 4 and not {0, 3, 5, 6, 8, 9} & set(data.held_out)
    assert sum(map(len, data.groups)) == 8  # the others are trained on
