"""Interrupted and resumed runs end with the same weights, and checkpoints stay intact."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from maquette.foundation.files import UNFINISHED
from maquette.training import checkpoint

PROGRAM = Path(__file__).parent.parent / "tiny_training.py"


def start(folder: Path, limit: int | None = None, base: str = "diorama", **changes) -> "subprocess.Popen[str]":
    def limited() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):  # which a background job's child would go on ignoring
            signal.signal(number, signal.SIG_DFL)
        if limit is not None:  # maximum file size, to simulate a full disk
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, str(PROGRAM), json.dumps(changes), base],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited,  # noqa: PLW1509 - no thread of this process holds locks that the child needs
    )


def steps_done(folder: Path) -> int:
    found = checkpoint.states(folder)
    return int(found[-1].stem.partition("-")[2]) if found else 0


def wait_for(folder: Path, step: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 100
    while steps_done(folder) < step:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    net: dict[str, torch.Tensor] = checkpoint.read(checkpoint.states(folder)[-1])["net"]
    return net


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A folder with rendered scenes and a cache, and the weights of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("runs")
    process = start(folder, output="whole", max_steps=24, ema=0.9, checkpoint_every=3)
    assert process.wait(200) == 0, process.communicate()[1]
    process.communicate()
    return folder, weights(folder / "whole")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_killed_three_times_equals_an_uninterrupted_one(whole) -> None:
    folder, expected = whole
    settings = {"output": "killed", "max_steps": 24, "ema": 0.9, "checkpoint_every": 3}
    for number, step in enumerate((3, 9, 15)):
        process = start(folder, **settings, resume=number > 0)
        wait_for(folder / "killed", step, process)
        process.kill()
        process.communicate()
    process = start(folder, **settings, resume=True)
    assert process.wait(200) == 0, process.communicate()[1]
    process.communicate()
    assert same(weights(folder / "killed"), expected)
    averages = [checkpoint.read(checkpoint.states(folder / name)[-1])["average"] for name in ("whole", "killed")]
    assert same(*averages)
    assert len(checkpoint.states(folder / "killed")) == 2


BUNDLED_NETS = {"optimizer_name": "muon", "ema": 0.9, "blocks": 2, "precision": "bfloat16", "prompt_conflict": 0.35}
"""As the ControlNets on the bundled transformer are trained."""


@pytest.mark.parametrize(("base", "more"), [pytest.param("toy", {}, marks=pytest.mark.slow), ("sd3", BUNDLED_NETS)])
def test_a_killed_transformer_run_equals_an_uninterrupted_one(base, more, tmp_path) -> None:
    settings = {"base": base, "max_steps": 20, "checkpoint_every": 2, **more}
    process = start(tmp_path, output="whole", **settings)
    assert process.wait(200) == 0, process.communicate()[1]
    process.communicate()
    process = start(tmp_path, output="killed", **settings)
    wait_for(tmp_path / "killed", 6, process)
    process.kill()
    process.communicate()
    assert steps_done(tmp_path / "killed") < 20
    process = start(tmp_path, output="killed", resume=True, **settings)
    assert process.wait(200) == 0, process.communicate()[1]
    process.communicate()
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, -signal.SIGINT, marks=pytest.mark.slow)],
)
def test_a_signal_saves_and_exits(whole, number, code) -> None:
    folder, expected = whole
    name = f"signal-{number}"
    settings = {"output": name, "max_steps": 24, "ema": 0.9, "checkpoint_every": 3}
    process = start(folder, **settings)
    wait_for(folder / name, 3, process)
    process.send_signal(number)
    process.wait(100)
    process.communicate()
    assert process.returncode == code
    done = steps_done(folder / name)
    assert 3 <= done < 24
    process = start(folder, **settings, resume=True)
    assert process.wait(200) == 0, process.communicate()[1]
    process.communicate()
    assert same(weights(folder / name), expected)


def test_a_full_disk_leaves_the_last_checkpoint_intact(whole) -> None:
    folder, _ = whole
    size = checkpoint.states(folder / "whole")[-1].stat().st_size
    first = start(folder, output="full", max_steps=4)
    assert first.wait(100) == 0, first.communicate()[1]
    first.communicate()
    good = weights(folder / "full")
    process = start(folder, limit=size // 2, output="full", max_steps=8, resume=True)
    process.wait(100)
    _, message = process.communicate()
    assert process.returncode == 1
    assert "The disk is full: " in message and "continue with --resume" in message
    assert steps_done(folder / "full") == 4
    assert same(weights(folder / "full"), good)
    assert {path.suffix for path in (folder / "full").glob("[!.]*")} <= {".pt", ".json", ".jsonl", ".safetensors"}
    assert not list((folder / "full").glob(f"*{UNFINISHED}*"))
