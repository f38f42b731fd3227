"""Canny on 512-pixel images, from files to shards, compared with a plain loop over OpenCV in the same run.

    python benchmarks/annotate.py                      # the diorama's scenes
    python benchmarks/annotate.py --images photos    # random square crops of a folder's images

The loop over OpenCV is imread, cvtColor, Canny and imwrite. `maquette data annotate` also checks every image and writes
image, map and text into shards. Both run on one core and on two, in turns, including the start of their processes.
Prints images per second of wall time and of CPU time (which other work on the machine hardly affects), the ratio of the
two programs in each round, and the speed-up of two cores. Appends the medians with date, device and commit to
benchmarks/annotate.jsonl.
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
    """Write `COUNT` distinct JPEGs."""
    rng = np.random.default_rng(0)
    images = _scenes() if source is None else _photographs(source)
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


def _photographs(folder: Path) -> list[np.ndarray]:
    images = (cv2.imread(str(path)) for path in sorted(folder.iterdir()))
    return [image for image in images if image is not None]


def opencv(paths: Sequence[Path], target: Path, cores: int) -> None:
    """Run `OPENCV` in one process per core."""
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
    options = [
        "--condition",
        "canny",
        "--size",
        "original",
        "--no-texts",
        "--workers",
        str(cores),
        "--shard-size",
        str(SHARD),
    ]
    subprocess.run([*command, *options], check=True, capture_output=True, env=ONE_THREAD)


class Timing(NamedTuple):
    """Seconds that a run took."""

    wall: float
    cpu: float  # user and system time of all its processes


def timed(run: Callable[[Sequence[Path], Path, int], None], paths: Sequence[Path], target: Path, cores: int) -> Timing:
    started, used = time.perf_counter(), _cpu_seconds()
    run(paths, target, cores)
    result = Timing(time.perf_counter() - started, _cpu_seconds() - used)
    shutil.rmtree(target)
    return result


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path)
    arguments = parser.parse_args()
    rounds: list[dict[tuple[str, int], Timing]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        paths = write_images(folder / "images", arguments.images)
        kilobytes = sum(path.stat().st_size for path in paths) / COUNT / 1000
        for turn in range(ROUNDS):
            order = (opencv, maquette) if turn % 2 else (maquette, opencv)
            runs = [(cores, run) for cores in (1, 2) for run in order]
            rounds.append({(run.__name__, cores): timed(run, paths, folder / "target", cores) for cores, run in runs})
            print({f"{name}, {cores}": round(COUNT / timing.wall, 1) for (name, cores), timing in rounds[-1].items()})
    line = {
        "date": date.today().isoformat(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
        ).stdout.strip(),
        "device": f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "images": f"{COUNT} {'photographs' if arguments.images else 'scenes'}, {SIDE} pixels, {kilobytes:.0f} kB each",
        "a_second_and_core": {name: _median(COUNT / timing[name, 1].cpu for timing in rounds) for name in NAMES},
        "a_second_on_one": {name: _median(COUNT / timing[name, 1].wall for timing in rounds) for name in NAMES},
        "a_second_on_two": {name: _median(COUNT / timing[name, 2].wall for timing in rounds) for name in NAMES},
        "two_over_one": {
            name: _median(timing[name, 1].wall / timing[name, 2].wall for timing in rounds) for name in NAMES
        },
        "of_opencv_a_core": _median(timing["opencv", 1].cpu / timing["maquette", 1].cpu for timing in rounds),
        "of_opencv_on_one": _median(timing["opencv", 1].wall / timing["maquette", 1].wall for timing in rounds),
        "of_opencv_on_two": _median(timing["opencv", 2].wall / timing["maquette", 2].wall for timing in rounds),
    }
    print(json.dumps(line))
    with Path(__file__).with_suffix(".jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)


if __name__ == "__main__":
    main()
