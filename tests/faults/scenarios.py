"""The writers that faults are injected into: each in a folder of its own, and each may be run again."""

import ctypes
import hashlib
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from tests.conftest import tiny_base
from tests.own_pairs import write_pairs

import maquette as mq
from maquette.annotation.annotate import Job, ShardWriter, annotate
from maquette.annotation.annotation import Annotation
from maquette.annotation.output import Target
from maquette.base import Base
from maquette.checkpoints.convert import convert
from maquette.data.sources.open import open_source
from maquette.foundation.images import open_image
from maquette.foundation.weights import open_weights
from maquette.sampling.metadata import Record
from maquette.training import checkpoint
from maquette.training.monitor import convergence
from maquette.training.monitor.metrics_log import SAVED, Log


class Scenario(NamedTuple):
    """A writer."""

    prepare: Callable[[Path], object]  # what it reads
    write: Callable[[Path], object]  # also goes on with what an earlier run left
    result: Callable[[Path], dict[str, str]]  # digests of what it has written
    check: Callable[[Path], object]  # raises for half a file under a final name, and for what was said and is not there


@cache
def base() -> Base:
    return tiny_base("sd15", "epsilon", context=64)


def digest(tensors: dict[str, torch.Tensor]) -> str:
    parts = (name.encode() + value.detach().contiguous().numpy().tobytes() for name, value in sorted(tensors.items()))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def contents(folder: Path, pattern: str = "[!.]*") -> dict[str, str]:
    paths = sorted(path for path in folder.rglob(pattern) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def check_files(paths: Iterable[Path]) -> None:
    """Read each file as what it is."""
    for path in paths:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix in (".png", ".jpg"):
            open_image(path)
        elif path.suffix in (".safetensors", ".pth"):
            weights = open_weights(path)
            assert all(weights[name].numel() for name in weights)
        elif path.suffix == ".pt":
            checkpoint.read(path)
        elif path.suffix in (".tar", ".parquet"):
            assert not open_source(path).faults


def train(folder: Path, **changes: Any) -> None:
    convergence.STEPS = 1
    settings = {
        "condition": "rings",
        "data": folder / "pairs",
        "output": folder / "run",
        "size": 64,
        "max_steps": 4,
        "batch_size": 2,
        "evaluate_every": 0,
        "warmup": 1,
        "precision": "float32",
        "cache_folder": folder / "cache",
        "learning_rate": 1e-3,
        "checkpoint_every": 1,
        "resume": (folder / "run" / "training.json").exists(),
    }
    mq.train(mq.TrainingConfig(**{**settings, **changes}), base())


def train_sharded(rank: int, folder: Path, **changes: Any) -> None:
    """Train on two processes (FSDP): this one is number `rank`, in which faults happen, the other is started here.

    As a launcher has it, neither outlives the other's death.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    other = os.fork()
    if other == 0:
        ctypes.CDLL(None).fault_arm(ctypes.c_long(0), 0, b"")
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # when its parent dies
    mine = str(rank if other else 1 - rank)
    os.environ.update(world | {"RANK": mine, "LOCAL_RANK": mine, "LOCAL_WORLD_SIZE": "2"})
    if other:
        threading.Thread(target=_die_with, args=(other,), daemon=True).start()
        train(folder, shard=True, **changes)
        return
    try:
        train(folder, shard=True, **changes)
        os._exit(0)
    finally:
        os._exit(1)


def _die_with(process: int) -> None:
    if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) < 0:
        os.kill(os.getpid(), signal.SIGKILL)


def trained(folder: Path) -> dict[str, str]:
    run = folder / "run"
    state = checkpoint.read(checkpoint.states(run)[-1])
    lines = [{**line, "seconds": 0} for line in Log(run, "rings").lines() if SAVED not in line]
    tensors = {name: digest(state[name]) for name in ("net", "average", "base") if name in state}
    final = {path: value for path, value in contents(run).items() if path.endswith((".safetensors", "config.json"))}
    final |= {path: value for path, value in contents(run).items() if path.startswith("grids/")}
    return {**tensors, **final, "metrics": json.dumps(lines, sort_keys=True)}


def check_training(folder: Path) -> None:
    run = folder / "run"
    check_files(path for path in run.rglob("[!.]*") if path.suffix in (".json", ".png", ".safetensors", ".pt"))
    said = Log(run, "rings").column(SAVED)[0]
    assert not said or checkpoint.state_at(run, said[-1]).exists(), "a state was said to be saved"


def in_process(job: Job, source: Any, shards: Any, tick: Any) -> None:
    writer = ShardWriter.open(job, source)
    for shard in shards:
        tick(writer.write(shard))


def annotated(name: str, folder: Path) -> None:
    annotation = Annotation(str(folder / "pairs"), "canny", shard_size=2, size=None)
    annotate(Job(annotation, Target(folder / name), "cpu", 1, 2), in_process)


def check_annotation(name: str, folder: Path) -> None:
    target = Target(folder / name)
    check_files([*target.folder.glob("[!.]*"), *target.folder.glob(".annotation/[!.]*")])
    for number in range(6):
        stats = target.stats(number)
        assert stats is None or target.holds(number, stats), "a shard counts as done"


def net(folder: Path) -> None:
    mq.ControlNet.attach(base()).save(folder / "net")


def converted(folder: Path) -> None:
    convert(folder / "net", folder / "out" / "net.safetensors", "original")
    convert(folder / "net", folder / "out" / "net.pth", "original")
    convert(folder / "net", folder / "out" / "folder", "diffusers")


def generated(folder: Path) -> None:
    condition = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    control = mq.Control(mq.load_controlnet(folder / "net", base()), condition)
    images = mq.generate(base(), "a house", [control], seed=1, count=2, steps=1)
    for image, name in zip(images, ("one.png", "two.jpg"), strict=True):
        mq.save(image, folder / "out" / name)


def check_generation(folder: Path) -> None:
    for path in folder.glob("out/[!.]*"):
        if path.suffix in (".png", ".jpg"):
            open_image(path)
            Record.load(path)


def careless(folder: Path) -> None:
    """Writes as nothing of ours does: under the final name, and what is there already counts as done."""
    if not (folder / "out" / "values.json").exists():
        (folder / "out" / "values.json").write_text(json.dumps(list(range(1000))))


def of_pairs(folder: Path) -> None:
    write_pairs(folder / "pairs", 6, (64, 64))


def out(folder: Path) -> dict[str, str]:
    return contents(folder / "out")


SCENARIOS = {
    "training": Scenario(of_pairs, partial(train, ema=0.9), trained, check_training),
    "measured training": Scenario(
        of_pairs,
        partial(train, max_steps=2, evaluate_every=1, held_out=2, keep_best=True),
        trained,
        check_training,
    ),
    "unlocked training": Scenario(of_pairs, partial(train, max_steps=2, unlock="decoder"), trained, check_training),
    "sharded training": Scenario(of_pairs, partial(train_sharded, 0, max_steps=3), trained, check_training),
    "sharded training, other process": Scenario(
        of_pairs, partial(train_sharded, 1, max_steps=3), trained, check_training
    ),
    "annotation": Scenario(
        of_pairs,
        partial(annotated, "out"),
        lambda folder: contents(folder / "out", "[0-9]*.tar"),
        partial(check_annotation, "out"),
    ),
    "annotation to Parquet": Scenario(
        of_pairs,
        partial(annotated, "out.parquet"),
        lambda folder: contents(folder / "out.parquet", "[0-9]*.parquet"),
        partial(check_annotation, "out.parquet"),
    ),
    "conversion": Scenario(net, converted, out, lambda folder: check_files((folder / "out").rglob("[!.]*"))),
    "careless": Scenario(
        lambda folder: (folder / "out").mkdir(parents=True),
        careless,
        out,
        lambda folder: check_files((folder / "out").glob("*")),
    ),
    "generation": Scenario(net, generated, out, check_generation),
}
