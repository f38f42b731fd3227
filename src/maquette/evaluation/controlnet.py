"""Fidelity of a ControlNet on unseen scenes under the paper's four kinds of prompt (v3 §4.1)."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from maquette.base import Base
from maquette.conditions.networks.perception import PerceptionModel
from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.data.diorama import Pairs
from maquette.diorama import SIZE, dataset
from maquette.evaluation.base import through
from maquette.evaluation.protocol import PROMPTS, Protocol
from maquette.foundation.files import atomic_write
from maquette.foundation.images import image_grid
from maquette.foundation.pixels import to_unit
from maquette.foundation.progress import steps_bar
from maquette.metrics.fidelity import NAMES, fidelity
from maquette.sampling.generate import generate

SHOWN = 8  # scenes on the grid


@dataclass(frozen=True)
class Report:
    """Scores of one ControlNet, in [0, 1]."""

    condition: str
    protocol: Protocol
    ceiling: float  # score of the scenes themselves, encoded and decoded
    floor: float  # score of the scenes in another order: images independent of the condition
    controlled: dict[str, float]  # mean fidelity by kind of prompt
    uncontrolled: dict[str, float]  # the same prompts and noise without control

    def table(self) -> str:
        """The scores as a Markdown table."""
        lines = [
            f"{NAMES[self.condition]}, {self.protocol.scenes} unseen scenes: "
            f"ceiling {self.ceiling:.3f}, floor {self.floor:.3f}",
            "",
            "| prompt | with control | of the ceiling | without |",
            "| --- | --- | --- | --- |",
        ]
        for prompt in PROMPTS:
            score = self.controlled[prompt]
            share = f"{score / self.ceiling:.0%}" if self.ceiling > 0 else "–"
            lines.append(f"| {prompt} | {score:.3f} | {share} | {self.uncontrolled[prompt]:.3f} |")
        return "\n".join(lines)

    def save(self, path: Path) -> None:
        """Write the report as JSON, atomically."""
        values = {**vars(self), "protocol": vars(self.protocol)}
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(values, indent=2) + "\n")


class Uncontrolled:
    """The base's images without control for each kind of prompt, generated once for all ControlNets measured."""

    def __init__(self, base: Base, protocol: Protocol) -> None:
        self.base, self.protocol = base, protocol.on(base)
        self._images: dict[str, list[Image.Image]] = {}

    def images(self, kind: str, captions: list[str]) -> list[Image.Image]:
        """The images for a kind of prompt, a key of `PROMPTS`, made from the scenes' captions."""
        if kind not in self._images:
            prompts = PROMPTS[kind](captions)
            self._images[kind] = _generate(self.base, prompts, [], self.protocol, f"no control, {kind} prompt")
        return self._images[kind]


def evaluate_controlnet(
    net: ControlNet,
    condition: str,
    uncontrolled: Uncontrolled,
    grid: Path | None = None,
    perception: PerceptionModel | None = None,
) -> Report:
    """Generate with and without control for every kind of prompt, and score the images.

    Args:
        condition: a condition of the diorama.
        grid: where to save a grid of some images, a PNG.
        perception: the model that scores the images; the bundled one by default.

    Raises `MaquetteError` where no test scene shows the condition.
    """
    base, protocol = uncontrolled.base, uncontrolled.protocol
    pairs = Pairs.load(condition, range(dataset.TEST, dataset.TEST + protocol.scenes))
    pairs.telling()  # raises where there is nothing to score
    rows = range(len(pairs))
    truth = [pairs.ground_truth(row) for row in rows]
    sources = [Image.fromarray(image) for image in pairs.images]
    maps = [pairs.standard(row) for row in rows]
    control = Control(net, torch.stack([to_unit(image) for image in maps]))
    controlled, plain, shown = {}, {}, [maps[:SHOWN], sources[:SHOWN]]

    def score(images: list[Image.Image]) -> float:
        return float(np.nanmean(fidelity(condition, images, truth, perception)))

    for kind in PROMPTS:
        images = _generate(base, PROMPTS[kind](pairs.captions), [control], protocol, f"{condition}, {kind} prompt")
        controlled[kind] = score(images)
        shown.append(images[:SHOWN])
        plain[kind] = score(uncontrolled.images(kind, pairs.captions))
    reconstructed = through(base, sources, protocol.batch_size)
    if grid is not None:
        grid.parent.mkdir(parents=True, exist_ok=True)
        image_grid(shown, labels=("condition", "source", *PROMPTS)).save(grid)
    return Report(condition, protocol, score(reconstructed), score([*sources[1:], sources[0]]), controlled, plain)


def _generate(
    base: Base, prompts: list[str], controls: list[Control], protocol: Protocol, label: str
) -> list[Image.Image]:
    with steps_bar(label) as progress:
        return generate(
            base,
            prompts,
            controls,
            steps=protocol.steps,
            guidance=protocol.guidance,
            seed=protocol.seed,
            batch_size=protocol.batch_size,
            progress=progress,
            size=(SIZE, SIZE),
        )
