"""Damage to the files of a run: it goes on as if nothing had been, or says what was lost."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time

import pytest
import torch
from tests.conftest import tiny_base
from tests.own_pairs import weights, write_pairs

import maquette as mq
from maquette.base import Base
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.files import exclusive
from maquette.training import checkpoint, step
from maquette.training.monitor.metrics_log import Log
from maquette.training.run import BEST


@pytest.fixture
def base() -> Base:
    return tiny_base("sd15", "epsilon", context=64)


@pytest.fixture
def make(settings, tmp_path):
    write_pairs(tmp_path / "pairs")
    return lambda **changes: settings(**{"checkpoint_every": 1, **changes})


def same(first, second) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_second_training_in_a_folder_is_told_of_the_first(base, make, tmp_path) -> None:
    run = mq.train(make(max_steps=2, evaluate_every=0), base)
    words = f"is being written by process {os.getpid()} on {socket.gethostname()}"
    with exclusive(run), pytest.raises(MaquetteError, match=words):
        mq.train(make(evaluate_every=0, resume=True), base)
    mq.train(make(evaluate_every=0, resume=True), base)
    assert not (run / ".owner").exists()


def test_a_run_whose_states_are_gone_does_not_begin_anew(base, make, tmp_path) -> None:
    run = mq.train(make(max_steps=2), base)
    for path in checkpoint.states(run):
        path.unlink()
    words = r"has saved its state up to step 2, and its states .* are gone; there are .*training\.json"
    with pytest.raises(MaquetteError, match=words):
        mq.train(make(resume=True), base)
    (run / "metrics.jsonl").unlink()
    with pytest.raises(MaquetteError, match="was finished, and its states"):
        mq.train(make(resume=True), base)


@pytest.mark.parametrize("damage", ["junk", "cut", "zeros", "gone", "a digit"])
def test_damaged_metrics_are_restored_from_the_state(base, make, damage) -> None:
    run = mq.train(make(max_steps=2), base)
    path = run / "metrics.jsonl"
    before, content = Log(run, "rings").lines(), path.read_bytes()
    changed = {
        "junk": b"\xff\x00junk\n" + content + b"[[[\n{}\n",
        "cut": content[: len(content) // 2],
        "zeros": content[:200] + bytes(200) + content[400:],
        "a digit": content.replace(b'"gain": ', b'"gain": 7', 1),
    }
    path.write_bytes(changed[damage]) if damage in changed else path.unlink()
    with pytest.warns(MaquetteWarning, match=r"lines of .*metrics\.jsonl' are damaged and"):
        mq.train(make(resume=True), base)
    after = Log(run, "rings").lines()
    assert [line for line in after if line["step"] <= 2 and "gain" in line] == [
        line for line in before if "gain" in line
    ]
    assert [line["step"] for line in after if "gain" in line] == [0, 2, 4]


def test_lost_best_weights_are_said(base, make) -> None:
    run = mq.train(make(max_steps=2, keep_best=True), base)
    (run / BEST).write_bytes(b"")
    with pytest.warns(MaquetteWarning, match=r"best\.pt' is damaged .* has the weights of step 2"):
        mq.train(make(max_steps=2, keep_best=True, resume=True), base)
    assert mq.load_controlnet(run, base).contract.optimizer_steps == 2


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", ["emptied", "cut"])
def test_a_cache_that_is_lost_in_mid_run_is_said_and_the_run_goes_on(
    base, make, tmp_path, monkeypatch, damage, workers
) -> None:
    whole = mq.train(make(output=tmp_path / "whole", evaluate_every=0, max_steps=8), base)
    compute, calls = step.loss, []

    def lose(*args):
        calls.append(1)
        if len(calls) == 2:
            path = tmp_path / "cache" / "cache.sqlite"
            with sqlite3.connect(path) as connection:
                connection.execute("DELETE FROM entries")
            connection.execute("PRAGMA wal_checkpoint")
            connection.close()
            if damage == "cut":
                os.truncate(path, 0)
        return compute(*args)

    monkeypatch.setattr(step, "loss", lose)
    with pytest.warns(MaquetteWarning) as said:
        run = mq.train(make(evaluate_every=0, workers=workers, max_steps=8), base)
    assert any("has lost entries since the training began" in str(one.message) for one in said)
    first, second = weights(whole), weights(run)
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 3e-3
    assert len(calls) == 8


HANG_UP = """
import contextlib, os, pty, signal, sys
pid, terminal = pty.fork()
if pid == 0:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which a child of nohup would go on ignoring
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
seen = b""
while b"held\\r\\n" not in seen:
    seen += os.read(terminal, 1000)
os.close(terminal)
with contextlib.suppress(ProcessLookupError):
    os.kill(pid, signal.SIGHUP)  # as shells do, too
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status))
"""

HELD = """
import os, sys, signal, time
from maquette.training.distributed.world import World
from maquette.training.signals import stop_signal
with stop_signal(World("cpu")) as received:
    print("held", flush=True)
    while not received():
        time.sleep(0.01)
    time.sleep(0.1)
sys.exit(128 + received())
"""


def test_a_closed_terminal_is_a_signal_to_stop() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANG_UP, "-c", HELD], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == str(128 + signal.SIGHUP)


def test_what_was_ignored_stays_ignored() -> None:
    """As under nohup."""
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from maquette.training.distributed.world import World\n"
        "from maquette.training.signals import stop_signal\n"
        "with stop_signal(World('cpu')) as received:\n"
        "    signal.raise_signal(signal.SIGHUP); assert not received()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_states_of_versions_without_a_log_are_resumed(base, make) -> None:
    run = mq.train(make(max_steps=2), base)
    for path in checkpoint.states(run):
        state = checkpoint.read(path)
        checkpoint.write(path, {name: part for name, part in state.items() if name != "log"})
    lines = [line for line in Log(run, "rings").lines() if "saved" not in line]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    mq.train(make(resume=True), base)
    assert [line["step"] for line in Log(run, "rings").lines() if "gain" in line] == [0, 2, 4]


def test_a_clock_that_goes_backwards_changes_nothing(base, make, tmp_path, monkeypatch) -> None:
    whole = mq.train(make(output=tmp_path / "whole", evaluate_every=0), base)
    now = iter(range(2_000_000_000, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: next(now))
    mq.train(make(evaluate_every=0, max_steps=2), base)
    for path in tmp_path.rglob("*"):
        if path.is_file() and "pairs" not in path.parts:
            os.utime(path, (0, 0))
    run = mq.train(make(evaluate_every=0, resume=True), base)
    assert same(weights(whole), weights(run))


def test_where_nothing_can_be_written_a_sentence_says_so(base, make, tmp_path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(MaquetteError, match=r"Nothing can be written to .*/file/run.* name another output"):
        mq.train(make(output=tmp_path / "file" / "run", evaluate_every=0), base)
