"""A folder of pairs of one's own, and what a run on it ended with."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from maquette.training import checkpoint

Weights = dict[str, torch.Tensor]


def write_pairs(folder: Path, count: int = 12, size: tuple[int, int] = (96, 64)) -> Path:
    rng = np.random.default_rng(0)
    (folder / "maps").mkdir(parents=True)
    lines = []
    for number in range(count):
        for place in ("", "maps/"):
            values = rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(values).save(folder / f"{place}{number}.png")
        lines.append(
            {
                "file_name": f"{number}.png",
                "conditioning_image": f"maps/{number}.png",
                "text": "abcdefghijklmnop"[number],
            }
        )
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def weights(folder: Path) -> Weights:
    net: Weights = checkpoint.read(checkpoint.states(folder)[-1])["net"]
    return net


def apart(one: Weights, other: Weights, start: Weights) -> float:
    """How far two runs are apart, as a share of the way that the first has come.

    Not weight by weight: where a gradient is nearly 0, Adam makes a whole step of its rounding.
    """
    assert one.keys() == other.keys()
    way = sum(float((one[name] - start[name]).square().sum()) for name in one)
    between = sum(float((one[name] - other[name]).square().sum()) for name in one)
    return (between / way) ** 0.5
