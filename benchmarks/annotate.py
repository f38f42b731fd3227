"""Canny on images of 512 pixels, from files to written shards, beside OpenCV alone in a plain loop, in one run.

    python benchmarks/annotate.py                      # the diorama's scenes
    python benchmarks/annotate.py --images photos    # squares cut at random from a folder's images

OpenCV alone is imread, cvtColor, Canny and imwrite: a PNG beside the image. `maquette data annotate` does the same,
and writes image, map and text into shards, with the checks and notes that it has. Both on one core and on two, in
turns, each with the start of its processes. Prints images a second by the clock and, as other work on the machine
leaves it nearly alone, by the seconds of a core that were used; the ratio of the two in each round; and how much faster
two cores are. Appends the medians with date, device and commit to benchmarks/annotate.jsonl.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

COUNT, SIDE, ROUNDS, SHARD = 6000, 512, 3, 500
NAMES = ("maquette", "opencv")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "OPENCV_NUM_THREADS": "1"}
OPENCV = """
import sys, cv2
cv2.setNumThreads(1)
target, *paths = sys.stdin.read().split("\\n")
for number, path in enumerate(paths):
    grey = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2GRAY)
    cv2.imwrite(f"{target}/{number}.png", cv2.Canny(grey, 100, 200))
"""


def write_images(folder: Path, source: Path | None) -> list[Path]:
    """As many JPEGs as are needed, no two the same."""
    rng = np.random.default_rng(0)
    images = (
        _scenes() if source is None else [one for path in sorted(source.iterdir()) if (one := _read(path)) is not None]
    )
    paths = [folder / f"{number:04d}.jpg" for number in range(COUNT)]
    for number, path in enumerate(paths):
        image = images[number % len(images)]
        side = int(rng.integers(min(image.shape[:2]) // 2, min(image.shape[:2])))
        top, left = (int(rng.integers(length - side)) for length in image.shape[:2])
        square = image[top : top + side, left : left + side]
        cv2.imwrite(str(path), cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    return paths


def _scenes() -> list[np.ndarray]:
    from maquette.diorama import scene

    return [np.asarray(scene(seed, 2 * SIDE).image)[..., ::-1] for seed in range(16)]


def _read(path: Path) -> np.ndarray | None:
    return cv2.imread(str(path))


def opencv(paths: Sequence[Path], target: Path, cores: int) -> None:
    """In so many processes."""
    runs = []
    for core in range(cores):
        (target / str(core)).mkdir(parents=True)
        run = subprocess.Popen([sys.executable, "-c", OPENCV], stdin=subprocess.PIPE, text=True, env=ONE_THREAD)
        assert run.stdin is not None
        run.stdin.write("\n".join([str(target / str(core)), *map(str, paths[core::cores])]))
        run.stdin.close()
        runs.append(run)
    assert [run.wait() for run in runs] == [0] * cores


def maquette(paths: Sequence[Path], target: Path, cores: int) -> None:
    command = [sys.executable, "-m", "maquette", "data", "annotate", str(paths[0].parent), str(target)]
    asked = ["--condition", "canny", "--no-texts", "--workers", str(cores), "--shard-size", str(SHARD)]
    subprocess.run([*command, *asked], check=True, capture_output=True, env=ONE_THREAD)


class Took(NamedTuple):
    """Seconds of a run."""

    clock: float
    cores: float  # user's and system's, of all its processes


def took(run: Callable[[Sequence[Path], Path, int], None], paths: Sequence[Path], target: Path, cores: int) -> Took:
    started, used = time.perf_counter(), _used()
    run(paths, target, cores)
    result = Took(time.perf_counter() - started, _used() - used)
    shutil.rmtree(target)
    return result


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path)
    asked = parser.parse_args()
    rounds: list[dict[tuple[str, int], Took]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        paths = write_images(folder / "images", asked.images)
        kilobytes = sum(path.stat().st_size for path in paths) / COUNT / 1000
        for turn in range(ROUNDS):
            order = (opencv, maquette) if turn % 2 else (maquette, opencv)
            runs = [(cores, run) for cores in (1, 2) for run in order]
            rounds.append({(run.__name__, cores): took(run, paths, folder / "target", cores) for cores, run in runs})
            print({f"{name}, {cores}": round(COUNT / one.clock, 1) for (name, cores), one in rounds[-1].items()})
    line = {
        "date": date.today().isoformat(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
        ).stdout.strip(),
        "device": f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "images": f"{COUNT} {'photographs' if asked.images else 'scenes'}, {SIDE} pixels, {kilobytes:.0f} kB each",
        "a_second_and_core": {name: _middle(COUNT / one[name, 1].cores for one in rounds) for name in NAMES},
        "a_second_on_one": {name: _middle(COUNT / one[name, 1].clock for one in rounds) for name in NAMES},
        "a_second_on_two": {name: _middle(COUNT / one[name, 2].clock for one in rounds) for name in NAMES},
        "two_over_one": {name: _middle(one[name, 1].clock / one[name, 2].clock for one in rounds) for name in NAMES},
        "of_opencv_a_core": _middle(one["opencv", 1].cores / one["maquette", 1].cores for one in rounds),
        "of_opencv_on_one": _middle(one["opencv", 1].clock / one["maquette", 1].clock for one in rounds),
        "of_opencv_on_two": _middle(one["opencv", 2].clock / one["maquette", 2].clock for one in rounds),
    }
    print(json.dumps(line))
    with Path(__file__).with_suffix(".jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def _middle(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)


if __name__ == "__main__":
    main()
