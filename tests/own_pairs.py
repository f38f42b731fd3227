"""A folder of custom pairs, and the weights of a run on it."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from maquette.training import checkpoint

Weights = dict[str, torch.Tensor]


def write_pairs(folder: Path, count: int = 12, size: tuple[int, int] = (96, 64)) -> Path:
    """Write random pairs of `size` (width, height) in pixels."""
    rng = np.random.default_rng(0)
    (folder / "maps").mkdir(parents=True)
    lines = []
    for number in range(count):
        for subfolder in ("", "maps/"):
            values = rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(values).save(folder / f"{subfolder}{number}.png")
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
    """The ControlNet's weights in the last checkpoint of a run."""
    net: Weights = checkpoint.read(checkpoint.states(folder)[-1])["net"]
    return net


def apart(first: Weights, second: Weights, start: Weights) -> float:
    """Distance between the weights of two runs, relative to the distance of the first from the start.

    Not per weight: for gradients near 0, Adam amplifies rounding errors to full steps.
    """
    assert first.keys() == second.keys()
    trained = sum(float((first[name] - start[name]).square().sum()) for name in first)
    between = sum(float((first[name] - second[name]).square().sum()) for name in first)
    return (between / trained) ** 0.5
