"""The scores of each held-out pair are kept with a run's metrics, and tell the noise of their mean."""

import json
import math
import os

import numpy as np
import pytest

from maquette.training.monitor.metrics_log import METRICS, SCENES, Log


def written(folder, scores: np.ndarray, every: int = 10, keep_each: bool = True) -> Log:
    """The log of a run whose pairs had the scores (n, pairs)."""
    log = Log(folder, "canny")
    for number, each in enumerate(scores):
        log.write(every * number, each.tolist() if keep_each else (), fidelity=round(float(np.nanmean(each)), 4))
    return log


def jump(sigma: float, pairs: int = 16, count: int = 20) -> np.ndarray:
    """A jump of every pair at measurement 10, with noise of its own."""
    rng = np.random.default_rng(0)
    return 0.35 + 0.3 * (np.arange(count)[:, None] >= 10) + rng.normal(0, sigma, (count, pairs))


def test_scores_of_each_pair_come_back(tmp_path) -> None:
    scores = jump(0.05)
    scores[:, 3] = math.nan  # a pair with nothing to score
    steps, found = written(tmp_path, scores).of_each()
    assert steps == list(range(0, 200, 10))
    assert np.allclose(found, scores, atol=1e-4, equal_nan=True)


def test_a_damaged_list_is_a_damaged_line(tmp_path) -> None:
    log = written(tmp_path, jump(0.05))
    path = tmp_path / METRICS
    lines = path.read_text().splitlines()
    lines[4] = lines[4].replace(f'"{SCENES}": [', f'"{SCENES}": ["x", ')
    path.write_text("\n".join(lines) + "\n")
    assert len(log.lines()) == 19 and log.of_each()[1].shape == (19, 16)


@pytest.mark.parametrize("changed", [{"step": 10**30}, {"seconds": math.nan}, {"seconds": -1}, {"loss": 10**400}])
def test_numbers_that_no_run_has_make_a_damaged_line(changed, tmp_path) -> None:
    log = written(tmp_path, jump(0.05))
    with (tmp_path / METRICS).open("a") as stream:
        stream.write(json.dumps({"step": 200, "seconds": 1.0, **changed}) + "\n")
    assert len(log.lines()) == 20
    log.write(210, loss=math.inf)
    assert log.lines()[-1]["loss"] == math.inf  # a run that diverged


def test_metrics_that_are_a_pipe_are_none(tmp_path) -> None:
    os.mkfifo(tmp_path / METRICS)
    assert Log(tmp_path, "canny").lines() == []


def test_pairs_that_disagree_leave_a_date_open(tmp_path) -> None:
    """The same means, in a log that does not tell the pairs (of version 0.2), in a sure one, and in a noisy one."""
    sure, noisy = jump(0.02), jump(0.02)
    noisy += 3 * np.random.default_rng(1).normal(0, 1, noisy.shape)
    noisy += (sure.mean(axis=1) - noisy.mean(axis=1))[:, None]
    assert np.allclose(sure.mean(axis=1), noisy.mean(axis=1))
    logs = [
        written(tmp_path / name, scores, keep_each=name != "old")
        for name, scores in {"old": sure, "sure": sure, "noisy": noisy}.items()
        if not (tmp_path / name).mkdir()
    ]
    assert [log.converged() for log in logs] == [100, 100, None]
    assert logs[0].verdict() == logs[1].verdict() == "converged at step 100"


def test_a_measurement_between_the_others_changes_no_action(tmp_path) -> None:
    """The last step of a run that was extended later."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = written(tmp_path / "whole", jump(0.05))
    parts = Log(tmp_path / "parts", "canny")
    for step, each in zip(*whole.of_each(), strict=True):
        parts.write(step, each.tolist(), fidelity=round(float(each.mean()), 4))
        if step == 90:
            parts.write(95, [0.9] * 16, fidelity=0.9)
    assert whole.settled_at(10) == parts.settled_at(10) is not None
