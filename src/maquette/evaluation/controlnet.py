"""Fidelity of a ControlNet on unseen scenes or held-out pairs under the paper's four kinds of prompt (v3 §4.1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
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
from maquette.evaluation.judges import Judges
from maquette.evaluation.protocol import AUTOMATIC, PROMPTS, Protocol
from maquette.evaluation.report import Report, Scores
from maquette.foundation.images import image_grid
from maquette.foundation.progress import steps_bar
from maquette.metrics.fidelity import SceneScorer, Scorer
from maquette.metrics.intervals import Interval, bootstrap
from maquette.sampling.generate import generate
from maquette.sampling.prompts import Captioner

SHOWN = 8  # scenes on the grid


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
    measured: Callable[[Sequence[Image.Image]], dict[str, list[float]]]  # of images generated from the maps, by label

    @staticmethod
    def of(pairs: Pairs, rows: Sequence[int], scorer: Scorer, kind: str) -> "Examples":
        """Rows of a data set, with their maps as they are without random parameters."""
        truth = [pairs.ground_truth(row) for row in rows]
        sources = [pairs.image(row, CropView()) for row in rows]
        expected = scorer.expected(sources)
        return Examples(
            pairs.condition,
            scorer.label,
            kind,
            [pairs.where(row) for row in rows],
            [pairs.text(row) for row in rows],
            [pairs.condition_map(row, CropView(), None) for row in rows],
            sources,
            lambda images: scorer.measured(images, truth, expected),
        )


def unseen_scenes(condition: str, count: int, perception: PerceptionModel | None = None) -> Examples:
    """The first `count` test scenes. Raises `MaquetteError` where none shows the condition."""
    pairs = diorama.Pairs.load(condition, range(dataset.TEST, dataset.TEST + count))
    pairs.telling()  # raises where there is nothing to score
    return Examples.of(pairs, range(len(pairs)), SceneScorer(condition, perception), "unseen scenes")


class Uncontrolled:
    """The base's images without control for each kind of prompt, generated once for all ControlNets measured."""

    def __init__(self, base: Base, protocol: Protocol) -> None:
        self.base, self.protocol = base, protocol.on(base)
        self._images: dict[tuple[object, ...], list[Image.Image]] = {}

    def images(self, kind: str, prompts: list[str], size: tuple[int, int]) -> list[Image.Image]:
        """The images of size (width, height) for the prompts of a kind."""
        key = (size, *prompts)
        if key not in self._images:
            self._images[key] = _generate(
                self.base, prompts, None, [], self.protocol, size, f"no control, {kind} prompt"
            )
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


@dataclass
class _Gathered:
    """What was measured of images with control, or of those without."""

    each: dict[str, Scores] = field(default_factory=dict)  # by label
    sets: dict[str, dict[str, Interval]] = field(default_factory=dict)

    def add(self, kind: str, each: dict[str, list[float]], sets: dict[str, Interval]) -> None:
        for label, scores in each.items():
            self.each.setdefault(label, {})[kind] = scores
        for label, distance in sets.items():
            self.sets.setdefault(label, {})[kind] = distance


def evaluate(
    net: ControlNet,
    examples: Examples,
    uncontrolled: Uncontrolled,
    grid: Path | None = None,
    judges: Judges | None = None,
    captioner: Captioner | None = None,
) -> Report:
    """Generate from examples with and without control for every kind of prompt, and score the images.

    Args:
        grid: where to save a grid of some images, a PNG.
        judges: further judges of the images.
        captioner: writes the automatic prompts, if the protocol has them.

    Raises `MaquetteError` for fewer than 2 examples, since each also gets another's caption.
    """
    base, protocol = uncontrolled.base, replace(uncontrolled.protocol, scenes=len(examples.maps))
    judges = judges or Judges()
    size = examples.sources[0].size
    real = judges.features(examples.sources)
    controlled, bare = _Gathered(), _Gathered()
    prompts: dict[str, list[str]] = {}
    pictures = {"condition": examples.maps[:SHOWN], "source": examples.sources[:SHOWN]}
    unshown: dict[str, list[Image.Image]] = {}
    defaults: list[Image.Image] = []

    def generated(kind: str) -> list[Image.Image]:
        label = f"{examples.condition}, {kind} prompt"
        return _generate(base, prompts[kind], net, examples.maps, protocol, size, label)

    for kind in sorted(protocol.kinds, key=AUTOMATIC.__eq__):  # the automatic ones last: they caption the default's
        if kind == AUTOMATIC:
            assert captioner is not None, "automatic prompts need a captioner"
            prompts["default"] = PROMPTS["default"](examples.captions)
            prompts[kind] = list(captioner(defaults or generated("default")))
        else:
            prompts[kind] = PROMPTS[kind](examples.captions)
        images, without = generated(kind), uncontrolled.images(kind, prompts[kind], size)
        if kind == "default" and AUTOMATIC in protocol.kinds:
            defaults = images
        for found, gathered in ((images, controlled), (without, bare)):
            each = examples.measured(found) | judges.each(found, prompts[kind])
            gathered.add(kind, each, judges.sets(found, real))
        pictures[kind], unshown[f"{kind}, no control"] = images[:SHOWN], without[:SHOWN]
    ceilings = examples.measured(through(base, examples.sources, protocol.batch_size))
    floors = examples.measured([*examples.sources[1:], examples.sources[0]])
    if grid is not None:
        grid.parent.mkdir(parents=True, exist_ok=True)
        image_grid(list(pictures.values()), labels=list(pictures)).save(grid)
    label = examples.label
    scores, without_control = controlled.each.pop(label), bare.each.pop(label)
    own = judges.each(examples.sources, examples.captions)
    return Report(
        examples.condition,
        protocol,
        _mean(ceilings[label]),
        _mean(floors[label]),
        {kind: _mean(found) for kind, found in scores.items()},
        {kind: _mean(found) for kind, found in without_control.items()},
        label,
        examples.kind,
        examples.names,
        scores,
        without_control,
        controlled.each,
        bare.each,
        _bounds(ceilings | own, floors, label),
        controlled.sets,
        bare.sets,
        {kind: prompts[kind] for kind in scores},
        pictures | unshown,
    )


def _bounds(
    ceilings: dict[str, list[float]], floors: dict[str, list[float]], label: str
) -> dict[str, tuple[float, float]]:
    """The ceiling and floor of each further measure; NaN where it has none."""
    return {
        name: (bootstrap(np.array(ceilings[name])).mean, bootstrap(np.array(floors.get(name, [np.nan]))).mean)
        for name in ceilings
        if name != label
    }


def _mean(scores: Sequence[float]) -> float:
    """The mean of the scores that are not NaN. Raises `MaquetteError` if none is."""
    values = np.asarray(scores, float)
    if np.isnan(values).all():
        raise MaquetteError("None of the images has anything to score, such as a person for poses; take more of them.")
    return float(np.nanmean(values))


def _generate(
    base: Base,
    prompts: list[str],
    net: ControlNet | None,
    maps: Sequence[Image.Image],
    protocol: Protocol,
    size: tuple[int, int],
    label: str,
) -> list[Image.Image]:
    """An image for each prompt, with the map of its number where there is a ControlNet."""
    with steps_bar(label) as progress:
        return generate(
            base,
            prompts,
            [Control(net, list(maps))] if net is not None else [],
            steps=protocol.steps,
            guidance=protocol.guidance,
            seed=protocol.seed,
            batch_size=protocol.batch_size,
            record=False,
            progress=progress,
            size=size,
        )
