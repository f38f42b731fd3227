"""Split = whole: processes, shards and accumulated parts change nothing but rounding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import tiny_training
from tests.conftest import tiny_base
from tests.own_pairs import Weights, apart

import maquette as mq
from maquette.errors import MaquetteError
from maquette.training import checkpoint
from maquette.training.config import TrainingConfig
from maquette.training.setup import check_shares

PROGRAM = Path(__file__).parent.parent / "tiny_training.py"
ROUNDING = 3e-4  # see `apart`; in float32


def run(folder: Path, processes: int = 1, base: str = "diorama", **changes) -> Weights:
    """Train a base of `tiny_training` with several processes; returns the weights."""
    alone = [sys.executable]
    several = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*(alone if processes == 1 else several), str(PROGRAM), json.dumps(changes), base],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    net: Weights = checkpoint.read(checkpoint.states(folder / changes["output"])[-1])["net"]
    return net


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Weights]:
    folder = tmp_path_factory.mktemp("runs")
    return folder, run(folder, output="whole", evaluate_every=3, held_out=2)


@pytest.fixture(scope="module")
def fresh() -> Weights:
    return mq.ControlNet.attach(tiny_base("diorama", "v_prediction", context=96)).state_dict()


def test_accumulated_gradients_equal_those_of_the_whole_batch(whole, fresh) -> None:
    folder, expected = whole
    assert apart(expected, run(folder, output="parts", accumulation=4), fresh) < ROUNDING


def test_two_processes_train_like_one(whole, fresh) -> None:
    """With DDP, accumulation and evaluation."""
    folder, expected = whole
    found = run(folder, 2, output="two", accumulation=2, evaluate_every=3, held_out=2)
    assert apart(expected, found, fresh) < ROUNDING
    measured = [
        [line for line in map(json.loads, (folder / name / "metrics.jsonl").read_text().splitlines()) if "gain" in line]
        for name in ("whole", "two")
    ]
    assert [line["step"] for line in measured[1]] == [line["step"] for line in measured[0]] == [0, 3, 6]
    assert all(abs(a["fidelity"] - b["fidelity"]) < 0.02 for a, b in zip(*measured, strict=True))


@pytest.mark.parametrize(
    ("shard", "base"),
    [
        pytest.param(False, "sd3", id="DDP-sd3"),
        pytest.param(True, "zimage", id="FSDP-zimage"),
        pytest.param(False, "zimage", id="DDP-zimage", marks=pytest.mark.slow),
        pytest.param(True, "sd3", id="FSDP-sd3", marks=pytest.mark.slow),
    ],
)
def test_transformers(shard, base, tmp_path) -> None:
    """Of Stable Diffusion 3's last copied block the text's half reaches no output, so it gets no gradient; a copy on
    Z-Image runs blocks of its base.
    """
    single = run(tmp_path, base=base, output="one", learning_rate=1e-3)
    several = run(tmp_path, 2, base=base, output="two", learning_rate=1e-3, shard=shard)
    new = mq.ControlNet.attach(tiny_training.BASES[base]()).state_dict()
    assert apart(single, several, new) < ROUNDING


def test_sharded_training_equals_one_process_which_can_resume_it(whole, fresh) -> None:
    """FSDP: one part of the run on two processes, the other on one, in both orders."""
    folder, expected = whole
    run(folder, 2, output="shards", shard=True, max_steps=4, accumulation=2, evaluate_every=3, held_out=2)
    assert apart(expected, run(folder, output="shards", resume=True, evaluate_every=3, held_out=2), fresh) < ROUNDING
    run(folder, output="back", max_steps=2)
    assert apart(expected, run(folder, 2, output="back", shard=True, resume=True), fresh) < ROUNDING


@pytest.mark.slow
def test_stages_on_two_processes_equal_those_on_one(tmp_path, fresh) -> None:
    settings = {"connect": "middle", "reconnect": 2, "unlock": "decoder", "unlock_at": 4, "unlock_learning_rate": 1e-3}
    single = run(tmp_path, output="one", **settings)
    assert apart(single, run(tmp_path, 2, output="two", **settings), fresh) < ROUNDING
    assert apart(single, run(tmp_path, 2, output="shards", shard=True, **settings), fresh) < ROUNDING
    bases = [checkpoint.read(checkpoint.states(tmp_path / name)[-1])["base"] for name in ("one", "two", "shards")]
    start = tiny_base("diorama", "v_prediction", context=96).backbone.network.state_dict()
    assert apart(bases[0], bases[1], start) < ROUNDING
    assert apart(bases[0], bases[2], start) < ROUNDING


def test_batches_that_do_not_divide_evenly_are_refused(tmp_path) -> None:
    config = TrainingConfig(**{**tiny_training.SETTINGS, "output": tmp_path, "batch_size": 6, "accumulation": 2})
    with pytest.raises(MaquetteError, match="a multiple of 2 processes × 2 parts, not 6"):
        check_shares(config.data.batch_size, config.hardware.accumulation, 2)
