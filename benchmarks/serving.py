"""Many clients of one studio: that every picture is its own, that memory stays flat, and what serving at once gains.

    python benchmarks/serving.py --clients 64 --pictures 500

Clients with addresses of their own ask over HTTP; who is refused, waits and asks again. Every picture is compared with
what `generate` makes of its seed alone. `--together 1` serves one picture at a time.
"""

import argparse
import base64
import http.client
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

import maquette as mq
from maquette.studio.requests.limits import Limits

THINGS = ("a red house", "two trees", "a person at night", "a blue car in the snow")
SCENES, SIDE = 16, 64  # pixels, the smallest that the diorama makes
PATIENCE = 900  # seconds for one answer


@dataclass
class Told:
    """What the clients were told."""

    pictures: dict[int, np.ndarray] = field(default_factory=dict)  # by seed
    refused: int = 0
    refused_without_place: int = 0
    failed: list[str] = field(default_factory=list)
    memory: dict[int, int] = field(default_factory=dict)  # of the studio in KiB, after so many pictures
    seconds: float = 0.0
    work: float = 0.0  # of the studio's processor time, seconds
    lock: threading.Lock = field(default_factory=threading.Lock)


@cache
def edges(number: int) -> Image.Image:
    """The map of a scene."""
    return mq.detect("canny", mq.diorama.scene(number).image.resize((SIDE, SIDE)))


def settings(seed: int, steps: int) -> tuple[str, Image.Image, float, int]:
    """What a seed asks for: prompt, map, weight and steps; the first three differ from one seed to the next."""
    return THINGS[seed % len(THINGS)], edges(seed % SCENES), (0.5, 1.0, 1.5)[seed % 3], steps


def body(seed: int, steps: int) -> bytes:
    """The request of a seed."""
    prompt, map_, weight, steps = settings(seed, steps)
    stream = io.BytesIO()
    map_.save(stream, "PNG")
    packed = base64.b64encode(stream.getvalue()).decode()
    layer = {"condition": "canny", "picture": packed, "is_map": True, "weight": weight}
    values = {"prompt": prompt, "seed": seed, "steps": steps, "size": [SIDE, SIDE], "layers": [layer]}
    return json.dumps(values).encode()


@contextmanager
def served(together: int, threads: int) -> Iterator[tuple[int, int]]:
    """A studio in a process of its own: its port and its process id."""
    code = (
        "import torch; from maquette.studio.requests.limits import Limits; from maquette.studio.server import serve; "
        f"torch.set_num_threads({threads}); serve(port=0, device='cpu', dtype='float32', "
        f"limits=Limits(together={together}))"
    )
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        found = re.search(r"http://[\w.]+:(\d+)", process.stdout.readline())
        assert found, "the studio did not start"
        try:
            yield int(found[1]), process.pid
        finally:
            process.terminate()


def memory_of(process: int) -> int:
    """What a process holds in memory, KiB."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[0])


def work_of(process: int) -> float:
    """The processor time that a process took so far, seconds."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def client(number: int, seeds: list[int], steps: int, port: int, process: int, told: Told) -> None:
    """Ask for the pictures of some seeds, one after the other, until each is there."""
    for seed in seeds:
        content = body(seed, steps)
        while True:
            connection = http.client.HTTPConnection(
                "127.0.0.1", port, timeout=PATIENCE, source_address=(f"127.0.1.{number + 1}", 0)
            )
            connection.request("POST", "/api/generate", content, {"Accept": "image/png"})
            answer = connection.getresponse()
            received = answer.read()
            connection.close()
            if answer.status != 429:
                break
            with told.lock:
                told.refused += 1
                told.refused_without_place += not json.loads(received).get("position")
            time.sleep(min(2.0, float(answer.headers["Retry-After"])))
        with told.lock:
            if answer.status != 200:
                told.failed.append(f"seed {seed}: {answer.status} {received[:200]!r}")
                continue
            told.pictures[seed] = np.asarray(Image.open(io.BytesIO(received)).convert("RGB"))
            if len(told.pictures) % 100 == 0:
                told.memory[len(told.pictures)] = size = memory_of(process)
                print(f"{len(told.pictures)} pictures, {size / 1024:.0f} MiB", flush=True)


def asked(together: int, threads: int, clients: int, pictures: int, steps: int) -> Told:
    """Have clients ask a studio for pictures."""
    told = Told()
    with served(together, threads) as (port, process):
        began, before = time.monotonic(), work_of(process)
        shares = [list(range(number, pictures, clients)) for number in range(clients)]
        asking = [
            threading.Thread(target=client, args=(number, seeds, steps, port, process, told))
            for number, seeds in enumerate(shares)
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        told.seconds, told.work = time.monotonic() - began, work_of(process) - before
    return told


def others(told: Told, steps: int) -> list[int]:
    """The seeds whose picture is not the one that `generate` makes alone, bit for bit."""
    base = mq.load_base("diorama", device="cpu", dtype="float32")
    net, found = mq.load_controlnet("diorama/canny", base), []
    for seed, picture in sorted(told.pictures.items()):
        prompt, map_, weight, steps = settings(seed, steps)
        (alone,) = mq.generate(base, prompt, mq.Control(net, map_, weight), steps=steps, seed=seed, record=False)
        if not np.array_equal(alone, picture):
            found.append(seed)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--together", type=int, default=Limits.together)
    parser.add_argument("--unchecked", action="store_true", help="leave out the comparison with generate")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    told = asked(given.together, given.threads, given.clients, given.pictures, given.steps)
    growth = {count: round(100 * (size / told.memory[100] - 1), 2) for count, size in sorted(told.memory.items())}
    print(
        f"{given.clients} clients, {len(told.pictures)} of {given.pictures} pictures in {told.seconds:.0f} s "
        f"({len(told.pictures) / told.seconds:.2f} a second, {told.work / len(told.pictures):.2f} s of processor time "
        f"each, {given.together} at once); {told.refused} times refused, "
        f"{told.refused_without_place} of these without a place; failed: {told.failed}; "
        f"memory against the 100th picture in %: {growth}",
        flush=True,
    )
    wrong = [] if given.unchecked else others(told, given.steps)
    print("not compared" if given.unchecked else f"other than by generate alone: {wrong}")
    sys.exit(bool(wrong or told.failed or told.refused_without_place or len(told.pictures) != given.pictures))


if __name__ == "__main__":
    main()
