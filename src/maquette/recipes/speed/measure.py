"""Images of test scenes by every lever, and what is measured of them, in files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maquette.base import Base
from maquette.conditions.networks.perception import PerceptionModel
from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.diorama import dataset, scene
from maquette.evaluation.base import shows
from maquette.evaluation.controlnet import Examples
from maquette.sampling.generate import generate

CONDITIONS = ("canny", "depth", "pose", "segmentation", "scribble", "normal")
LEVERS: dict[str, dict[str, Any]] = {
    "exact": {},
    "balanced": {"speed": "balanced"},
    "draft": {"speed": "draft"},
    "draft, tiny decoder": {"speed": "draft", "decoder": "tiny"},
    "tiny decoder": {"decoder": "tiny"},
    "reuse 2": {"reuse": 2},
    "guidance 0-0.6": {"guidance_interval": (0.0, 0.6)},
    "10 steps, ddim": {"steps": 10},
    "10 steps, dpm++": {"steps": 10, "sampler": "dpm++"},
    "10 steps, unipc": {"steps": 10, "sampler": "unipc"},
}
BATCH = 20  # images at once


@dataclass(frozen=True)
class Measured:
    """What was measured of N images; NaN where there is nothing to score."""

    fidelity: NDArray[np.float64]  # (N,) to the condition, in [0, 1]
    alignment: NDArray[np.float64]  # (N,) share of the caption's things that are seen
    features: NDArray[np.float64]  # (N, D) of the perception model, for Fréchet distances
    true: NDArray[np.float64]  # (N, D) of the scenes
    pixels: NDArray[np.uint8]  # (N, H, W, 3)


def path_of(run: Path, condition: str, lever: str) -> Path:
    """The file of a lever's images with one condition."""
    return run / f"{condition}, {lever}.pt"


def generated(base: Base, examples: Examples, net: ControlNet, lever: str, count: int) -> list[Image.Image]:
    """Images of the first scenes."""
    control = Control(net, examples.maps[:count])
    return generate(base, examples.captions[:count], control, batch_size=BATCH, record=False, **LEVERS[lever])


def scored(images: list[Image.Image], examples: Examples, perception: PerceptionModel) -> dict[str, Tensor]:
    """The fields of `Measured` (N, ...) of images of the first test scenes."""
    seen = perception.predict(images)
    aligned = []
    for row in range(len(images)):
        things = scene(dataset.TEST + row).world.things
        aligned.append(np.mean([shows(seen.classes[row], seen.colours[row], thing, things)[0] for thing in things]))
    return {
        "fidelity": torch.tensor(examples.measured(images)[examples.label], dtype=torch.float64),
        "alignment": torch.tensor(np.array(aligned)),
        "features": torch.tensor(perception.embed(images)),
        "true": torch.tensor(perception.embed(examples.sources)),
        "pixels": torch.tensor(np.stack([np.asarray(image) for image in images])),
    }


def conditions_of(run: Path, lever: str) -> list[str]:
    """The conditions that a lever was measured on."""
    return [condition for condition in CONDITIONS if path_of(run, condition, lever).exists()]


def read(run: Path, lever: str, counts: Mapping[str, int]) -> Measured:
    """So many first images of some conditions, one condition after the other."""
    parts = [torch.load(path_of(run, condition, lever), weights_only=True) for condition in counts]
    rows = [
        {name: one[:count] for name, one in part.items()} for part, count in zip(parts, counts.values(), strict=True)
    ]
    return Measured(**{name: torch.cat([row[name] for row in rows]).numpy() for name in rows[0]})
