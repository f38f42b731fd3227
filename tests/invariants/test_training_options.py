"""Training options: each does what it promises."""

import pytest
import torch
from tests.conftest import tiny_base
from tests.own_pairs import apart, weights, write_pairs
from typer.testing import CliRunner

import maquette as mq
from maquette.cli.main import app
from maquette.errors import MaquetteError
from maquette.training import checkpoint


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
