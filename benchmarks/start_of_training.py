"""The start of a training on ten million rows, and a resume: seconds to the first batch, and peak memory.

    python benchmarks/start_of_training.py                   # ten million rows, two processes, on this machine's CPU
    python benchmarks/start_of_training.py --rows 1000000
    python benchmarks/start_of_training.py --files 20000     # sizes for aspect ratio buckets, of files on the disk

Rows are synthetic, so that the disk does not count: their images are 64 small ones in turn, under ten million names,
and their texts a thousand. All else is what a training does before its first step: rows are held out, signed, hashed
and looked up in the cache, and shuffled. Seconds and peak memory are those of the slower, or larger, process; memory
before is that of the libraries and the base. With --files it times what buckets add to a start instead: the sizes of so
many images of 512 pixels are read, and found again at the next start. Prints a line for each start, and appends it with
date and commit to benchmarks/start_of_training.jsonl.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES, TEXTS, SIDE = 64, 1000, 64
BATCH, PROCESSES = 32, 2
ROOT = Path(__file__).parent.parent
START, RESUMED = 0, 100_000  # the steps to start from


def encoded(number: int) -> bytes:
    stream = io.BytesIO()
    values = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
    Image.fromarray(values).resize((SIDE, SIDE)).save(stream, "PNG")
    return stream.getvalue()


@dataclass(frozen=True)
class Picture:
    """A row's image: its own name, one of the contents."""

    number: int
    contents: list[bytes]

    @property
    def name(self) -> str:
        return f"{self.number}.png"

    def mark(self) -> bytes:
        return self.name.encode()

    def read(self) -> bytes:
        return self.contents[self.number % len(self.contents)]


class Rows:
    """A source of so many rows, none of which is kept."""

    def __init__(self, count: int) -> None:
        self.count, self.faults = count, ()
        self.contents = [encoded(number) for number in range(IMAGES)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> object:
        from maquette.data.sources.jsonl import Row

        picture = Picture(number, self.contents)
        return Row(picture.name, picture, picture, f"text {number % TEXTS}")


def start(rows: int, folder: Path, step: int) -> None:
    """What each process of a training does before step `step`; the main one prints the numbers."""
    sys.path.insert(0, str(ROOT))
    from tests.conftest import tiny_base

    from maquette.data.crop import ResizeCrop
    from maquette.data.pairs import SourcePairs
    from maquette.training.config import TrainingConfig
    from maquette.training.data.split import hold_out
    from maquette.training.distributed.world import World
    from maquette.training.loop import training_batches

    base, world = tiny_base("sd15", context=96), World("cpu")
    config = TrainingConfig(
        condition="rings",
        output=folder / "run",
        data="synthetic",
        cache_folder=folder,
        batch_size=BATCH,
        max_steps=RESUMED + 1,
    )
    pairs = SourcePairs.open("rings", Rows(rows), ResizeCrop((SIDE, SIDE)))
    before, started = peak(), time.perf_counter()
    data = hold_out(config, pairs)
    opened = time.perf_counter() - started
    batch = next(training_batches(config, base, data, world, step))
    seconds = time.perf_counter() - started
    assert len(batch) == BATCH // world.count
    found = world.gather_local((seconds, opened, before, peak()))
    if world.is_main:
        names = ("seconds to the first batch", "of these before the cache", "MiB before", "MiB at most")
        print(
            json.dumps(
                {name: round(max(values), 1) for name, values in zip(names, zip(*found, strict=True), strict=True)}
            )
        )


def sizes_of_files(count: int) -> dict[str, object]:
    """Seconds to read the sizes of files of noise, about 190 kB each, and to find them kept."""
    from maquette.data.sizes import read_sizes
    from maquette.data.sources.jsonl import Columns
    from maquette.data.sources.open import open_source
    from maquette.training.data.tensor_store import SizeStore

    seconds = []
    with tempfile.TemporaryDirectory() as name:
        photo = Path(name) / "photo.jpg"
        noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
        Image.fromarray(noise).save(photo, quality=85)
        content = photo.read_bytes()
        photo.unlink()
        (Path(name) / "pairs").mkdir()
        for number in range(count):
            (Path(name) / "pairs" / f"{number}.jpg").write_bytes(content)
        source = open_source(Path(name) / "pairs", Columns(has_conditions=False, has_texts=False))
        for _ in range(2):
            started = time.perf_counter()
            read_sizes(source, SizeStore.at(Path(name)))
            seconds.append(round(time.perf_counter() - started, 2))
    return {"files": count, "kB each": len(content) // 1000, "seconds to read": seconds[0], "to find": seconds[1]}


def record(line: dict[str, object]) -> None:
    """Print a line, and append it to the measurements."""
    print(json.dumps(line))
    with Path(__file__).with_suffix(".jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def peak() -> float:
    """Peak memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--files", type=int, help="Time the sizes of so many files instead.")
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "STEP"), help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.worker:
        start(settings.rows, Path(settings.worker[0]), int(settings.worker[1]))
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True)
    if settings.files:
        record({"date": date.today().isoformat(), "commit": commit.stdout.strip(), **sizes_of_files(settings.files)})
        return
    with tempfile.TemporaryDirectory() as name:
        for kind, step in (("start", START), ("resume", RESUMED)):
            launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES)]
            worker = [__file__, "--rows", str(settings.rows), "--worker", name, str(step)]
            done = subprocess.run([sys.executable, *launch, *worker], check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            line = {"date": date.today().isoformat(), "commit": commit.stdout.strip(), "rows": settings.rows}
            line |= {"processes": PROCESSES, "kind": kind, **found}
            line["cache, MiB"] = round(sum(file.stat().st_size for file in Path(name).glob("cache.sqlite*")) / 2**20, 1)
            record(line)


if __name__ == "__main__":
    main()
