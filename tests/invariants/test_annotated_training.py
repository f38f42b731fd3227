"""Training on the shards of `data annotate` and detecting while training are the same training, bit by bit."""

import numpy as np
import pytest
import torch
from tests.conftest import tiny_base
from tests.own_pairs import weights
from tests.unit.data.conftest import as_folder, encoded
from tests.unit.data.test_order import annotated, pictured

import maquette as mq
from maquette.training import loop

SIZES = [(200, 150), (90, 170), (64, 64), (300, 80), (110, 100), (130, 260)]
OPTIONS = {"low": 60, "high": 140}


@pytest.fixture
def seen(monkeypatch) -> list[tuple[list[int], torch.Tensor, float]]:
    """Rows, condition maps and loss of each step of the trainings from now on."""
    steps: list[tuple[list[int], torch.Tensor, float]] = []
    check = loop.Run.check_finite

    def noted(run, batch, step, loss) -> None:
        steps.append((batch.rows.tolist(), batch.conditions.clone(), float(loss)))
        check(run, batch, step, loss)

    monkeypatch.setattr(loop.Run, "check_finite", noted)
    return steps


def test_canny(settings, tmp_path, seen) -> None:
    """Shards of one row each are shuffled as the files of a folder are."""
    photos = as_folder(
        [
            {"image": encoded(pictured(size, seed)), "condition": encoded(pictured(size, seed)), "text": "abcdef"[seed]}
            for seed, size in enumerate(SIZES)
        ],
        tmp_path / "photos",
    )
    shards = annotated(photos, tmp_path / "shards", size=(64, 64), options=OPTIONS, shard_size=1)
    base = tiny_base("sd15", context=96)
    runs = []
    for name, data in (("ready", {"data": shards}), ("drawn", {"data": photos, "detect": True})):
        options = {"detect_options": OPTIONS} if "detect" in data else {}
        config = settings(condition="canny", output=tmp_path / name, evaluate_every=0, max_steps=6, **data, **options)
        runs.append(weights(mq.train(config, base)))
    ready, drawn = seen[:6], seen[6:]
    assert len(ready) == len(drawn) == 6
    for (rows, maps, loss), (other_rows, other_maps, other_loss) in zip(ready, drawn, strict=True):
        assert rows == other_rows
        assert torch.equal(maps, other_maps) and maps.any()
        assert loss == other_loss
    assert len({loss for _, _, loss in ready}) == 6 and np.isfinite([loss for _, _, loss in ready]).all()
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
