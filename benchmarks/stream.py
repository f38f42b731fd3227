"""An epoch of tar shards read by two processes: checks that every pair is read once, and that memory stays flat.

    python benchmarks/stream.py

Writes 100,000 pairs of 32 pixels into twenty shards (in a temporary folder), and reads them as a training on two
processes would, without a cache: images and conditions are decoded, cropped and collated. Prints pairs per second and
memory, plots memory over pairs to docs/stream.png, and appends the numbers with date and commit to
benchmarks/stream.jsonl.
"""

import io
import itertools
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image

PAIRS, SHARDS, BATCH = 100_000, 20, 200
STEPS = PAIRS // BATCH


def write_shards(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for shard in range(SHARDS):
        with tarfile.open(folder / f"pairs-{shard:02d}.tar", "w") as archive:
            for row in range(PAIRS // SHARDS):
                key = f"{shard * (PAIRS // SHARDS) + row:06d}"
                for ending in ("png", "condition.png"):
                    stream = io.BytesIO()
                    Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(stream, "PNG")
                    _add(archive, f"{key}.{ending}", stream.getvalue())
                _add(archive, f"{key}.txt", key.encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def read(folder: Path, rank: int) -> None:
    """Read the share of one of two processes in an epoch; prints its memory regularly, and at the end the rows read."""
    from maquette.data.crop import ResizeCrop
    from maquette.data.pairs import SourcePairs
    from maquette.data.sources.open import open_source
    from maquette.noise.ddpm import DDPM
    from maquette.training.config import TrainingConfig
    from maquette.training.data.batch_sampler import batches
    from maquette.training.data.dataset import LatentSpec, SampleIndex, TrainingDataset, load

    pairs = SourcePairs.open("rings", open_source(folder), ResizeCrop((64, 64)))
    config = TrainingConfig(condition="rings", output="unused", data=str(folder))
    order = batches([pairs.blocks()], BATCH, config.data.shuffle_window, seed=0)
    spec = LatentSpec(DDPM({}), 4, 8, 64)
    dataset = TrainingDataset(pairs, None, config.data, [np.arange(len(pairs))], spec, config.seed)
    places = (
        [SampleIndex(step, place, row) for place, row in enumerate(rows)][rank::2]
        for step, rows in enumerate(itertools.islice(order, STEPS))
    )
    seen: list[int] = []
    started = time.perf_counter()
    for batch in load(dataset, places, workers=0):
        seen += batch.rows.tolist()
        prompts = zip(batch.rows.tolist(), batch.prompts, strict=True)
        assert all(int(prompt) == row for row, prompt in prompts if prompt), "a prompt of another pair"
        if len(seen) % (10 * BATCH) == 0:
            print(json.dumps({"pairs": len(seen), "MiB": _resident()}))
    print(json.dumps({"seconds": time.perf_counter() - started, "rows": seen}))


def _resident() -> float:
    """Memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        write_shards(Path(name))
        command = [sys.executable, __file__, name]
        readers = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(2)]
        printed = [reader.communicate()[0].splitlines() for reader in readers]
    ends = [json.loads(lines[-1]) for lines in printed]
    curves = [[json.loads(line) for line in lines[:-1]] for lines in printed]
    rows = [row for end in ends for row in end["rows"]]
    assert sorted(rows) == list(range(PAIRS)), "an epoch reads every pair once"
    line = {
        "date": date.today().isoformat(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
        ).stdout.strip(),
        "pairs": len(rows),
        "pairs a second and process": round(PAIRS / 2 / max(end["seconds"] for end in ends)),
        "MiB after a tenth": [round(curve[len(curve) // 10]["MiB"], 1) for curve in curves],
        "MiB at the end": [round(curve[-1]["MiB"], 1) for curve in curves],
    }
    print(json.dumps(line))
    with Path(__file__).with_suffix(".jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    plot(curves)


def plot(curves: list[list[dict[str, float]]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.add_subplot()
    for rank, curve in enumerate(curves):
        axes.plot([point["pairs"] for point in curve], [point["MiB"] for point in curve], label=f"process {rank}")
    axes.set(
        xlabel="pairs read", ylabel="memory, MiB", ylim=(0, None), title="An epoch of 100,000 pairs from tar shards"
    )
    axes.legend()
    figure.savefig(Path(__file__).parent.parent / "docs" / "stream.png", dpi=110)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        read(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
