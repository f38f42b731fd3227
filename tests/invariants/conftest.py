"""A training on a folder of pairs that takes seconds."""

import pytest

import maquette as mq
from maquette.training.monitor import convergence


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(convergence, "STEPS", 2)

    def make(**changes) -> mq.TrainingConfig:
        defaults = {
            "condition": "rings",
            "data": tmp_path / "pairs",
            "output": tmp_path / "run",
            "size": 64,
            "max_steps": 4,
            "batch_size": 2,
            "evaluate_every": 2,
            "held_out": 2,
            "warmup": 1,
            "precision": "float32",
            "cache_folder": tmp_path / "cache",
            "learning_rate": 1e-3,
        }
        idle = {"evaluate_every": "held_out", "cache": "cache_folder"}
        unused = [needs for name, needs in idle.items() if name in changes and not changes[name]]
        if changes.get("crop") == "random" and not changes.get("buckets"):  # which are not cached
            unused.append("cache_folder")
        return mq.TrainingConfig(
            **{name: value for name, value in {**defaults, **changes}.items() if name not in unused}
        )

    return make
