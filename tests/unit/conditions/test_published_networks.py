"""The networks of M-LSD, HED and the line drawings are the published ones: the same tensors, the same numbers.

`published_networks.json` was made by the published code (lllyasviel/ControlNet-v1-1-nightly, commit e2b44154, folder
annotator) with torch 2.13 on a CPU, its networks filled by `random_weights.by_formula`:

- `tensors`: SHA-256 of the lines "name [shape]" of the state dict, sorted.
- `values`: at 20 places, evenly spread from the first number to the last, of what the network answers to `input_of` it;
  of HED, of the answers of all its stages, one after the other.
- `map`: in the same way, of the detector's map of `pattern` of 256×256.
- `segments`, `count`: the first ten lines, and how many there are, of `pred_lines` for a map by formula; see there.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.unit.conditions.random_weights import NETWORKS, by_formula, write_random
from torch import Tensor, nn

import maquette as mq
from maquette.conditions.detectors.mlsd import segments
from maquette.conditions.networks.hed import Hed

PUBLISHED: dict[str, Any] = json.loads(Path(__file__).with_name("published_networks.json").read_text())


def pattern(width: int, height: int) -> Image.Image:
    row, column, channel = np.ogrid[:height, :width, :3]
    return Image.fromarray(((7 * row + 13 * column + 50 * channel) % 256).astype(np.uint8))


def input_of(name: str) -> Tensor:
    side = 256 if name == "lineart_anime" else 64
    pixels = torch.from_numpy(np.array(pattern(side, side))).permute(2, 0, 1)[None].float()
    if name.startswith("mlsd"):
        return torch.cat([pixels, torch.ones(1, 1, side, side)], dim=1) / 16  # some is more than the 6 of ReLU6
    return {"hed": pixels, "lineart": pixels / 255, "lineart_anime": pixels / 127.5 - 1}[name]


def places(numbers: NDArray[Any]) -> NDArray[Any]:
    return numbers[np.linspace(0, numbers.size - 1, 20).astype(int)]


def filled(name: str) -> nn.Module:
    with torch.device("meta"):
        network = NETWORKS[name]().eval()
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    network.load_state_dict(by_formula(shapes), assign=True)
    return network


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_networks_answer_as_the_published_ones(name: str) -> None:
    network = filled(name)
    lines = sorted(f"{key} {list(tensor.shape)}" for key, tensor in network.state_dict().items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED[name]["tensors"]
    x = input_of(name)
    outputs = network.sides(x) if isinstance(network, Hed) else [network(x)]
    found = places(np.concatenate([output.flatten().numpy() for output in outputs]))
    assert found == pytest.approx(PUBLISHED[name]["values"], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ["hed", "lineart", "lineart_anime"])
def test_maps_are_as_the_published_ones(name: str, tmp_path) -> None:
    shown = mq.detect(name, pattern(256, 256), weights=write_random(name, tmp_path), device="cpu")
    found = places(np.asarray(shown)[..., 0].flatten()).astype(int)
    expected = np.array(PUBLISHED[name]["map"])
    if name != "hed":
        expected = 255 - expected  # published as dark lines, and inverted before a ControlNet is given them
    assert np.abs(found - expected).max() <= 1


def test_segments_are_read_as_the_published_ones() -> None:
    """Of a map of (1, 9, 32, 48), 400 times what the formula gives, with score 0.6 and distance 6."""
    answer = by_formula({"answer": (1, 9, 32, 48)})["answer"] * 400
    (found,) = segments(answer, score=0.6, distance=6)
    assert len(found) == PUBLISHED["mlsd"]["count"]
    assert found[:10] * [96, 64, 96, 64] == pytest.approx(np.array(PUBLISHED["mlsd"]["segments"]), abs=1e-3)
