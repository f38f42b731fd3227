"""Detectors: latency of those without weights from the command line, and the speed-up of a batch over single images.

    python benchmarks/detect.py                  # a CPU
    python benchmarks/detect.py --device cuda

Networks have the published shapes and random weights; images have 512 pixels a side. Seconds are medians over
repetitions. Prints each line, and appends it with date, device and commit to benchmarks/detect.jsonl.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch

import maquette as mq
from maquette.conditions.networks.hed import Hed
from maquette.conditions.networks.lineart import Drawer, Sketcher
from maquette.conditions.networks.mlsd import Large, Tiny
from maquette.conditions.registry import detectors

TURNS, IMAGES, SIDE = 5, 8, 512
NETWORKS: dict[str, tuple[str, type[torch.nn.Module]]] = {
    "mlsd tiny": ("mlsd", Tiny),
    "mlsd large": ("mlsd", Large),
    "hed": ("hed", Hed),
    "lineart": ("lineart", Drawer),
    "lineart_anime": ("lineart_anime", Sketcher),
}


def start_up(folder: Path) -> dict[str, float]:
    """Seconds of `maquette detect NAME IMAGE` for each detector without a network."""
    image = folder / "scene.png"
    mq.diorama.scene(7).image.resize((SIDE, SIDE)).save(image)
    names = [name for name in detectors if not detectors[name].is_network]
    return {name: median(partial(command, "detect", name, str(image), "-o", str(folder))) for name in names}


def command(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "maquette", *arguments], check=True, capture_output=True)


def batched(name: str, device: str, folder: Path) -> dict[str, float]:
    """Seconds per image, one by one and as a batch."""
    detector_name, network = NETWORKS[name]
    torch.manual_seed(0)
    torch.save(network().state_dict(), folder / "random.pth")
    detector = mq.Detector(detector_name, folder / "random.pth", device)
    images = [mq.diorama.scene(seed).image.resize((SIDE, SIDE)) for seed in range(IMAGES)]
    alone = median(lambda: [detector(image) for image in images])
    batch = median(lambda: detector(images))
    seconds = {"one by one": alone / IMAGES, "together": batch / IMAGES, "times as fast": alone / batch}
    return {key: round(value, 4) for key, value in seconds.items()}


def median(function: Callable[[], Any]) -> float:
    seconds = []
    for turn in range(TURNS + 1):
        started = time.perf_counter()
        function()
        if turn:  # the first is a warm-up
            seconds.append(time.perf_counter() - started)
    return round(statistics.median(seconds), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    cpu = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    about = {
        "date": date.today().isoformat(),
        "commit": commit,
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record({**about, "case": "seconds to a map, from the command line", **start_up(folder)})
        for case in NETWORKS:
            record({**about, "case": f"{case}, seconds an image", **batched(case, device, folder)})


def record(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)
    with Path(__file__).with_suffix(".jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
