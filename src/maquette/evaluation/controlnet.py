"""Fidelity of a ControlNet on unseen scenes or held-out pairs under the paper's four kinds of prompt (v3 §4.1)."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from maquette.base import Base
from maquette.conditions.networks.perception import PerceptionModel
from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.data import diorama
from maquette.data.crop import CropView
from maquette.data.pairs import Pairs
from maquette.diorama import dataset
from maquette.errors import MaquetteError
from maquette.evaluation.base import through
from maquette.evaluation.protocol import PROMPTS, Protocol
from maquette.foundation.files import atomic_write
from maquette.foundation.images import image_grid
from maquette.foundation.pixels import to_unit
from maquette.foundation.progress import steps_bar
from maquette.metrics.fidelity import SceneScorer, Scorer
from maquette.metrics.intervals import Interval, bootstrap
from maquette.sampling.generate import generate

SHOWN = 8  # scenes on the grid


Scores = dict[str, list[float]]
"""The score of each image by kind of prompt, in [0, 1]; NaN where there is nothing to score."""


@dataclass(frozen=True)
class Examples:
    """What a ControlNet is evaluated on: rows of one shape, which its training did not see."""

    condition: str
    label: str  # of the score
    kind: str  # what each is: a scene or a pair, in the plural
    names: list[str]  # where each stands
    captions: list[str]
    maps: list[Image.Image]
    sources: list[Image.Image]
    score: Callable[[Sequence[Image.Image]], list[float]]  # of images generated from the maps

    @staticmethod
    def of(pairs: Pairs, rows: Sequence[int], scorer: Scorer, kind: str) -> "Examples":
        """Rows of a data set, with their maps as they are without random parameters."""
        truth = [pairs.ground_truth(row) for row in rows]
        return Examples(
            pairs.condition,
            scorer.label,
            kind,
            [pairs.where(row) for row in rows],
            [pairs.text(row) for row in rows],
            [pairs.condition_map(row, CropView(), None) for row in rows],
            [pairs.image(row, CropView()) for row in rows],
            lambda images: scorer(images, truth),
        )


def unseen_scenes(condition: str, count: int, perception: PerceptionModel | None = None) -> Examples:
    """The first `count` test scenes. Raises `MaquetteError` where none shows the condition."""
    pairs = diorama.Pairs.load(condition, range(dataset.TEST, dataset.TEST + count))
    pairs.telling()  # raises where there is nothing to score
    return Examples.of(pairs, range(len(pairs)), SceneScorer(condition, perception), "unseen scenes")


@dataclass(frozen=True)
class Report:
    """Scores of one ControlNet, in [0, 1]."""

    condition: str
    protocol: Protocol
    ceiling: float  # score of the scenes themselves, encoded and decoded
    floor: float  # score of the scenes in another order: images independent of the condition
    controlled: dict[str, float]  # mean fidelity by kind of prompt
    uncontrolled: dict[str, float]  # the same prompts and noise without control
    label: str = "fidelity"
    kind: str = "unseen scenes"
    names: list[str] = field(default_factory=list)  # of the scenes or pairs
    scores: Scores = field(default_factory=dict)  # of each image with control
    scores_without: Scores = field(default_factory=dict)

    @property
    def intervals(self) -> dict[str, Interval]:
        """The means with control and their 95 % intervals, by kind of prompt: a bootstrap over the images."""
        return {kind: bootstrap(np.array(scores)) for kind, scores in self.scores.items()}

    def table(self) -> str:
        """The scores as a Markdown table."""
        lines = [
            f"{self.label}, {self.protocol.scenes} {self.kind}: ceiling {self.ceiling:.3f}, floor {self.floor:.3f}",
            "",
            "| prompt | with control | 95 % interval | between floor and ceiling | without |",
            "| --- | --- | --- | --- | --- |",
        ]
        intervals = self.intervals
        for prompt in PROMPTS:
            score, spread = self.controlled[prompt], intervals[prompt]
            span = self.ceiling - self.floor
            share = f"{(score - self.floor) / span:.2f}" if span > 0 else "–"
            ends = f"{spread.low:.3f} to {spread.high:.3f}"
            cells = (f"{score:.3f}", ends, share, f"{self.uncontrolled[prompt]:.3f}")
            lines.append(f"| {prompt} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def save(self, path: Path) -> None:
        """Write the report as JSON, and the score of each image beside it as CSV, atomically."""
        values = {
            **vars(self),
            "protocol": vars(self.protocol),
            "intervals": {kind: asdict(score) for kind, score in self.intervals.items()},
        }
        images = {name: values.pop(name) for name in ("names", "scores", "scores_without")}
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(values, indent=2) + "\n")
        with atomic_write(path.with_suffix(".csv")) as temporary, temporary.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow((self.kind, "prompt", "with control", "without"))
            for kind, scores in images["scores"].items():
                pairs = zip(self.names, scores, images["scores_without"][kind], strict=True)
                writer.writerows((name, kind, f"{score:.6f}", f"{without:.6f}") for name, score, without in pairs)


class Uncontrolled:
    """The base's images without control for each kind of prompt, generated once for all ControlNets measured."""

    def __init__(self, base: Base, protocol: Protocol) -> None:
        self.base, self.protocol = base, protocol.on(base)
        self._images: dict[tuple[object, ...], list[Image.Image]] = {}

    def images(self, kind: str, captions: list[str], size: tuple[int, int]) -> list[Image.Image]:
        """The images of size (width, height) for a kind of prompt, a key of `PROMPTS`, made from captions."""
        key = (kind, size, *captions)
        if key not in self._images:
            prompts = PROMPTS[kind](captions)
            self._images[key] = _generate(self.base, prompts, [], self.protocol, size, f"no control, {kind} prompt")
        return self._images[key]


def evaluate_controlnet(
    net: ControlNet,
    condition: str,
    uncontrolled: Uncontrolled,
    grid: Path | None = None,
    perception: PerceptionModel | None = None,
) -> Report:
    """Generate from test scenes with and without control for every kind of prompt, and score the images.

    Args:
        condition: a condition of the diorama.
        grid: where to save a grid of some images, a PNG.
        perception: the model that scores the images; the bundled one by default.

    Raises `MaquetteError` where no test scene shows the condition.
    """
    return evaluate(net, unseen_scenes(condition, uncontrolled.protocol.scenes, perception), uncontrolled, grid)


def evaluate(net: ControlNet, examples: Examples, uncontrolled: Uncontrolled, grid: Path | None = None) -> Report:
    """Generate from examples with and without control for every kind of prompt, and score the images.

    Args:
        grid: where to save a grid of some images, a PNG.

    Raises `MaquetteError` for fewer than 2 examples, since each also gets another's caption.
    """
    base, protocol = uncontrolled.base, replace(uncontrolled.protocol, scenes=len(examples.maps))
    sources, captions = examples.sources, examples.captions
    size = sources[0].size
    control = Control(net, torch.stack([to_unit(image) for image in examples.maps]))
    shown = [examples.maps[:SHOWN], sources[:SHOWN]]
    scores: Scores = {}
    without: Scores = {}
    for kind in PROMPTS:
        label = f"{examples.condition}, {kind} prompt"
        images = _generate(base, PROMPTS[kind](captions), [control], protocol, size, label)
        scores[kind] = examples.score(images)
        shown.append(images[:SHOWN])
        without[kind] = examples.score(uncontrolled.images(kind, captions, size))
    ceiling = examples.score(through(base, sources, protocol.batch_size))
    floor = examples.score([*sources[1:], sources[0]])
    if grid is not None:
        with atomic_write(grid) as path:
            image_grid(shown, labels=("condition", "source", *PROMPTS)).save(path, "PNG")
    return Report(
        examples.condition,
        protocol,
        _mean(ceiling),
        _mean(floor),
        {kind: _mean(found) for kind, found in scores.items()},
        {kind: _mean(found) for kind, found in without.items()},
        examples.label,
        examples.kind,
        examples.names,
        scores,
        without,
    )


def _mean(scores: Sequence[float]) -> float:
    """The mean of the scores that are not NaN. Raises `MaquetteError` if none is."""
    values = np.asarray(scores, float)
    if np.isnan(values).all():
        raise MaquetteError("None of the images has anything to score, such as a person for poses; take more of them.")
    return float(np.nanmean(values))


def _generate(
    base: Base, prompts: list[str], controls: list[Control], protocol: Protocol, size: tuple[int, int], label: str
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
            record=False,
            progress=progress,
            size=size,
        )
