"""Training on custom pairs: broken rows, crops, failures and stages."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import tiny_base
from tests.own_pairs import apart, weights, write_pairs

import maquette as mq
from maquette.checkpoints.save import save_base
from maquette.data.crop import CropView, ResizeCrop
from maquette.data.pairs import SourcePairs
from maquette.data.random_detectors import DRAWS
from maquette.data.sources.open import open_source
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.training import checkpoint, loop
from maquette.training import step as steps
from maquette.training.monitor import convergence
from maquette.training.monitor.metrics_log import Log
from maquette.training.setup import open_networks


@pytest.fixture(scope="module")
def base():
    return tiny_base("sd15", context=96)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_folder_becomes_a_controlnet(base, settings, tmp_path) -> None:
    write_pairs(tmp_path / "pairs")
    run = mq.train(settings(), base)
    net = mq.load_controlnet(run, base)
    assert net.contract.detector == "rings" and net.contract.optimizer_steps == 4
    assert net.contract.resize == "scaled to cover the frame, by Lanczos, and cut"
    lines = Log(run, "rings").lines()
    assert [line["step"] for line in lines if "gain" in line] == [0, 2, 4]
    assert not any("fidelity" in line for line in lines)  # an unknown condition has no metric
    assert "gain share" in lines[0]
    page = (run / "report.html").read_text()
    assert "step-000004.png" in page and "rings" in page


@pytest.mark.parametrize(
    "changes", [{"flip": 0.5}, {"buckets": True, "size": 128}, {"workers": 1}, {"precision": "bfloat16"}]
)
def test_cached_is_fresh(base, settings, tmp_path, changes) -> None:
    """The same weights, up to half precision rounding of posteriors, which depend slightly on the batch size."""
    write_pairs(tmp_path / "pairs")
    runs = [
        mq.train(settings(output=tmp_path / str(cache), cache=cache, evaluate_every=0, **changes), base)
        for cache in (True, False)
    ]
    assert apart(*map(weights, runs), mq.ControlNet.attach(base).state_dict()) < 3e-3


def test_random_crops_are_never_cached(base, settings, tmp_path) -> None:
    write_pairs(tmp_path / "pairs")
    mq.train(settings(crop="random", evaluate_every=0), base)
    assert not (tmp_path / "cache").exists()


def test_conditions_are_detected_with_random_parameters(base, settings, tmp_path) -> None:
    write_pairs(tmp_path / "pairs")
    run = mq.train(settings(condition="canny", detect=True), base)
    assert all("fidelity" in line for line in Log(run, "canny").lines() if "gain" in line)
    pairs = SourcePairs.open("canny", open_source(tmp_path / "pairs"), ResizeCrop((64, 64)), DRAWS["canny"])
    maps = [np.asarray(pairs.condition_map(0, CropView(), np.random.default_rng(seed))) for seed in range(5)]
    assert any((image != maps[0]).any() for image in maps)


@pytest.mark.parametrize("cache", [True, False])
def test_broken_rows_are_skipped_counted_and_named(base, settings, tmp_path, cache) -> None:
    """An empty image, a missing one, a missing condition, one of another shape, a line that is no JSON."""
    folder = write_pairs(tmp_path / "pairs")
    (folder / "3.png").write_bytes(b"")
    (folder / "4.png").unlink()
    (folder / "maps" / "5.png").unlink()
    Image.new("RGB", (64, 64)).save(folder / "maps" / "6.png")
    with (folder / "metadata.jsonl").open("a") as stream:
        stream.write("not json\n")
    sound = mq.train(settings(output=tmp_path / "sound", broken=0.5, max_steps=12, cache=cache), base)
    named = [json.loads(line)["where"] for line in (sound / "broken.jsonl").read_text().splitlines()]
    assert sorted(named, key=lambda where: int(where.rsplit(":")[-1])) == [
        f"{folder / 'metadata.jsonl'}:{line}" for line in (4, 5, 6, 7, 13)
    ]
    assert "metadata.jsonl:4" in (sound / "report.html").read_text()
    with pytest.raises(MaquetteError, match=r"of 13 rows could not be read, more than the share of 0\.01"):
        mq.train(settings(output=tmp_path / "strict", broken=0.01, max_steps=12), base)


def test_rows_are_held_out_and_never_trained_on(base, settings, tmp_path, monkeypatch) -> None:
    write_pairs(tmp_path / "pairs")
    seen: set[int] = set()
    check = loop.Run.check_finite
    monkeypatch.setattr(
        loop.Run,
        "check_finite",
        lambda run, batch, done, loss: (seen.update(batch.rows.tolist()), check(run, batch, done, loss)),
    )
    mq.train(settings(max_steps=10, held_out=4), base)
    assert len(seen) == 8
    with pytest.raises(MaquetteError, match="has 12 rows, too few to hold out 12 readable ones"):
        mq.train(settings(output=tmp_path / "none", held_out=12), base)


def test_a_loss_that_is_not_finite_stops_the_run_with_its_rows(base, settings, tmp_path, monkeypatch) -> None:
    folder = write_pairs(tmp_path / "pairs")
    compute = steps.loss

    def spoil(*args):
        loss = compute(*args)
        return loss if not list(tmp_path.glob("run/state-*")) else loss * float("nan")

    monkeypatch.setattr(steps, "loss", spoil)
    with pytest.raises(MaquetteError, match=r"loss of step 3 is nan: the last good state is state-000002\.pt"):
        mq.train(settings(checkpoint_every=2, evaluate_every=0), base)
    with pytest.raises(MaquetteError) as error:
        mq.train(settings(checkpoint_every=2, evaluate_every=0, resume=True), base)
    assert str(error.value).count(f"{folder / 'metadata.jsonl'}:") == 2
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())


def test_running_out_of_memory_says_what_fits(base, settings, tmp_path, monkeypatch) -> None:
    write_pairs(tmp_path / "pairs")
    compute = steps.loss

    def only_two(model, schedule, latents, *args):
        if len(latents) > 2:
            raise torch.OutOfMemoryError("no room")
        return compute(model, schedule, latents, *args)

    monkeypatch.setattr(steps, "loss", only_two)
    with pytest.raises(MaquetteError, match=r"8 images in 1 parts does not fit .* accumulation = 4 was tried and fits"):
        mq.train(settings(batch_size=8, evaluate_every=0), base)
    mq.train(settings(batch_size=8, accumulation=4, evaluate_every=0, output=tmp_path / "fits"), base)


def test_an_unreadable_image_ends_no_training_in_buckets(base, settings, tmp_path) -> None:
    """Also where no other image has the shape that it would have: another row takes its place."""
    pairs = write_pairs(tmp_path / "pairs", 12)
    (pairs / "5.png").write_bytes(b"no image")
    run = mq.train(settings(buckets=True, broken=0.2, evaluate_every=0, max_steps=12), base)
    assert "5.png" in (run / "broken.jsonl").read_text()


def test_a_shard_of_one_process_has_no_effect(base, settings, tmp_path) -> None:
    write_pairs(tmp_path / "pairs")
    with pytest.warns(MaquetteWarning, match="shard has no effect in one process"):
        mq.train(settings(shard=True, precision="bfloat16", evaluate_every=0, max_steps=1), base)


def test_continuing_from_another_controlnet(base, settings, tmp_path) -> None:
    """Its weights and its contract are kept."""
    write_pairs(tmp_path / "pairs")
    first = mq.train(settings(evaluate_every=0), base)
    net = mq.load_controlnet(first, base)
    net.contract = replace(net.contract, channel_order="bgr")
    net.save(tmp_path / "other")
    config = settings(start_from=tmp_path / "other", precision="bfloat16", output=tmp_path / "more")
    save_base(base, tmp_path / "base")
    _, again = open_networks(replace(config, base=str(tmp_path / "base")), None, "cpu")
    assert same(net.state_dict(), again.state_dict())
    more = mq.train(replace(config, max_steps=1), base)
    assert mq.load_controlnet(more, base).contract.channel_order == "bgr"


def test_a_finished_run_that_is_resumed_is_the_same(base, settings, tmp_path, monkeypatch) -> None:
    """Also with several stages, and after stopping early."""
    write_pairs(tmp_path / "pairs")
    kept = {}
    for name, changes in {
        "stages": {"connect": "middle", "reconnect": 1, "ema": 0.5},
        "stopped": {"stop_after": 0, "max_steps": 30, "evaluate_every": 1},
        "best": {"keep_best": True},
    }.items():
        measured(monkeypatch, 4, range(12))
        config = settings(output=tmp_path / name, **changes)
        kept[name] = mq.load_controlnet(mq.train(config, base), base)
        again = mq.load_controlnet(mq.train(replace(config, resume=True), base), base)
        assert again.config == kept[name].config
        assert again.contract == kept[name].contract
        assert same(kept[name].state_dict(), again.state_dict())
    assert kept["stages"].config.connect == "all"
    assert kept["stopped"].contract.optimizer_steps == 11


def constant(value: float) -> dict[int, convergence.Gain]:
    return dict.fromkeys(convergence.LEVELS, convergence.Gain(1.0, value))


def test_the_best_weights_are_kept(base, settings, tmp_path, monkeypatch) -> None:
    write_pairs(tmp_path / "pairs")
    gains = iter([0.0, 0.5, 0.1, 0.2])
    monkeypatch.setattr(convergence.Monitor, "gain", lambda monitor, net: constant(next(gains)))
    run = mq.train(settings(keep_best=True, max_steps=6, checkpoint_every=2), base)
    kept = mq.load_controlnet(run, base).state_dict()
    best = checkpoint.read(run / "best.pt")
    assert best["step"] == 2
    assert same(best["net"], kept) and not same(best["net"], weights(run))


def measured(monkeypatch, jump: int, steps) -> None:
    """Let the measurements after the given steps find a gain of 0.5 from step `jump` on."""
    gains = iter([0.5 * (step >= jump) for step in steps])
    monkeypatch.setattr(convergence.Monitor, "gain", lambda monitor, net: constant(next(gains)))
    monkeypatch.setattr(convergence.Monitor, "measure", lambda monitor, net: ([], Image.new("RGB", (8, 8))))


def test_a_run_stops_once_convergence_has_settled(base, settings, tmp_path, monkeypatch, capsys) -> None:
    """Not at the first date; a run that was ended between and extended stops at the same step."""
    write_pairs(tmp_path / "pairs")
    config = settings(stop_after=1, max_steps=40, checkpoint_every=5)
    measured(monkeypatch, 8, range(0, 40, 2))
    whole = mq.train(config, base)
    log = Log(whole, "rings")
    assert log.settled_at() == 22  # with the twelfth measurement
    assert log.verdict() == "converged at step 8"
    assert mq.load_controlnet(whole, base).contract.optimizer_steps == 23
    assert "Stopped after step 23: convergence had settled at step 22" in capsys.readouterr().out
    parts = replace(config, output=tmp_path / "parts")
    measured(monkeypatch, 8, [0, 2, 4, 6, 8, 9])  # the last step is measured too
    with pytest.warns(MaquetteWarning, match="no effect with 5 evaluations: convergence settles with 12"):
        mq.train(replace(parts, max_steps=9), base)
    measured(monkeypatch, 8, range(10, 40, 2))
    assert mq.load_controlnet(mq.train(replace(parts, resume=True), base), base).contract.optimizer_steps == 23
    assert same(weights(whole), weights(tmp_path / "parts"))


def test_a_date_is_provisional_before_it_settles(base, settings, tmp_path, monkeypatch, capsys) -> None:
    write_pairs(tmp_path / "pairs")
    measured(monkeypatch, 2, range(10))
    run = mq.train(settings(max_steps=9, evaluate_every=1), base)
    assert "step 9: gain 0.5000, converged at step 2 (provisional)" in capsys.readouterr().out
    assert "converged at step 2 (provisional)" in (run / "report.html").read_text()


def test_residuals_are_reconnected_after_convergence(base, settings, tmp_path, monkeypatch) -> None:
    """Before, only the middle block's zero convolution is trained; after, all are."""
    write_pairs(tmp_path / "pairs")
    measured(monkeypatch, 4, range(13))
    settled = settings(connect="middle", reconnect="converged", max_steps=12, checkpoint_every=1, evaluate_every=1)
    run = mq.train(settled, base)
    before, after = (checkpoint.read(path)["net"] for path in checkpoint.states(run))
    assert not any(before[f"zero_convs.{slot}.weight"].any() for slot in range(12))
    assert before["zero_convs.12.weight"].any()
    assert all(after[f"zero_convs.{slot}.weight"].any() for slot in range(12))
    assert mq.load_controlnet(run, base).config.connect == "all"


def test_an_unlocked_base_is_trained_and_saved(settings, tmp_path) -> None:
    write_pairs(tmp_path / "pairs")
    base = tiny_base("sd15", context=96)
    before = {name: value.clone() for name, value in base.backbone.network.state_dict().items()}
    run = mq.train(settings(unlock="decoder", unlock_at=2, unlock_learning_rate=1e-3, max_steps=3), base)
    kept = mq.load_base(run / "base")
    after = kept.backbone.network.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"up_blocks", "conv_norm_out", "conv_out"}
    assert not any(value.requires_grad for value in base.backbone.network.parameters())
    mq.load_controlnet(run, kept)
