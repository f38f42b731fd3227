"""How well an image follows a condition: detect the condition again and compare; one score in [0, 1] per image.

On the diorama, `truth` is the ground truth of the scene that the condition was rendered from, so that scores are exact:
the map itself for edges and scribbles, class indices, metres, unit normals, key points. On other pairs it is their map.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.detect import Detector
from maquette.conditions.detectors.canny import DIORAMA, canny
from maquette.conditions.detectors.scribble import scribble
from maquette.conditions.networks.perception import Perceived, PerceptionModel
from maquette.conditions.registry import detector_spec
from maquette.errors import MaquetteError
from maquette.metrics.maps import depth_accuracy, edge_f1, mean_iou, normal_accuracy, pck
from maquette.metrics.registry import Metric, metric_of

NAMES = {
    "canny": "edge F1",
    "depth": "depth δ₁",
    "normal": "normals within 22.5°",
    "pose": "key points found",
    "scribble": "stroke F1",
    "segmentation": "mean IoU",
}
"""Name of each condition's score."""


def _strokes(image: Image.Image) -> NDArray[np.bool_]:
    """Where a map (H, W) is bright."""
    return np.asarray(image.convert("L")) > 127


class Scorer(Protocol):
    """Scores images by the condition that they were generated from."""

    @property
    def label(self) -> str:
        """What the score is called."""

    def __call__(self, images: Sequence[Image.Image], truth: Sequence[Any]) -> list[float]:
        """The score of each image; NaN where there is nothing to score."""

    def expected(self, sources: Sequence[Image.Image]) -> list[Any] | None:
        """What measures other than of maps compare with, found in the pairs' own images; None without such measures."""

    def measured(
        self, images: Sequence[Image.Image], truth: Sequence[Any], expected: Sequence[Any] | None
    ) -> dict[str, list[float]]:
        """The score of each image and every further measure of it, by label.

        Args:
            expected: as `expected` returns it.
        """


@dataclass(frozen=True)
class SceneScorer:
    """Compares with the exact values of the diorama's scenes."""

    condition: str
    perception: PerceptionModel | None = None

    @property
    def label(self) -> str:
        return NAMES[self.condition]

    def __call__(self, images: Sequence[Image.Image], truth: Sequence[Any]) -> list[float]:
        return fidelity(self.condition, images, truth, self.perception)

    def expected(self, sources: Sequence[Image.Image]) -> list[Any] | None:
        return None

    def measured(
        self, images: Sequence[Image.Image], truth: Sequence[Any], expected: Sequence[Any] | None
    ) -> dict[str, list[float]]:
        return {self.label: self(images, truth)}


@dataclass(frozen=True)
class MapScorer:
    """Compares the maps detected in images with the maps that they were generated from."""

    metric: Metric
    detect: Callable[[list[Image.Image]], list[Image.Image]]
    people: "People | None" = None  # for measures of key points

    @property
    def label(self) -> str:
        return self.metric.label

    def __call__(self, images: Sequence[Image.Image], truth: Sequence[Any]) -> list[float]:
        return _compared(self.metric.score, self.detect(list(images)), truth)

    def expected(self, sources: Sequence[Image.Image]) -> list[Any] | None:
        return self.people.find(sources) if self.people is not None else None

    def measured(
        self, images: Sequence[Image.Image], truth: Sequence[Any], expected: Sequence[Any] | None
    ) -> dict[str, list[float]]:
        drawn_from = self.people.find(images) if self.people is not None else None
        if self.people is not None and drawn_from is not None:
            found = [self.people.draw(one) for one in drawn_from]
        else:
            found = self.detect(list(images))
        scores = {self.label: _compared(self.metric.score, found, truth)}
        for measure in self.metric.more:
            if measure.of == "maps":
                scores[measure.label] = _compared(measure.compare, found, truth)
            elif drawn_from is not None and expected is not None:
                scores[measure.label] = _compared(measure.compare, drawn_from, expected)
        return scores


@dataclass(frozen=True)
class People:
    """Finds the people in images, and draws them as the condition's maps do."""

    find: Callable[[Sequence[Image.Image]], list[Any]]
    draw: Callable[[Any], Image.Image]


def _compared(compare: Callable[[Any, Any], float], found: Sequence[Any], expected: Sequence[Any]) -> list[float]:
    return [compare(one, other) for one, other in zip(found, expected, strict=True)]


def map_scorer(
    condition: str,
    device: str,
    detect: Callable[[Image.Image], Image.Image] | None = None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> MapScorer:
    """The scorer of one's own pairs: their condition's detector, and its metric.

    Args:
        detect: what detected the pairs' own maps, if anything did: it is used on the images too.
        weights: of the detector, as for `Detector`.
        options: of the detector; by default its own.

    Raises `MaquetteError` where the condition has no metric or no detector, or its weights would be downloaded first.
    """
    metric = metric_of(condition)
    if metric is None:
        raise MaquetteError(
            f"{condition!r} has no metric; register one for it (mq.register_metric), with a detector of that name "
            "(mq.register_detector)."
        )
    if detect is not None:
        return MapScorer(metric, lambda images: [detect(image) for image in images])
    spec = detector_spec(condition)
    if weights is None:
        spec.check_present()
    detector, chosen = Detector(condition, weights, device), dict(options or {})
    people = None
    if spec.record is not None and any(measure.of == "people" for measure in metric.more):
        people = People(lambda images: detector.find(images, **chosen), spec.record.draw)
    return MapScorer(metric, lambda images: detector(images, **chosen), people)


_DETECTORS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "canny": lambda image: canny(image, **DIORAMA),
    "scribble": scribble,
}
_PERCEIVED: dict[str, Callable[[Perceived, int, Any], float]] = {
    "depth": lambda perceived, row, truth: depth_accuracy(perceived.depth[row], truth),
    "normal": lambda perceived, row, truth: normal_accuracy(perceived.normals[row], truth),
    "pose": lambda perceived, row, truth: pck(perceived.keypoints[row], truth),
    "segmentation": lambda perceived, row, truth: mean_iou(perceived.classes[row], truth),
}


def needs_eye(condition: str) -> bool:
    """Whether the perception model scores a condition."""
    return condition in _PERCEIVED


def fidelity(
    condition: str, images: Sequence[Image.Image], truth: Sequence[Any], perception: PerceptionModel | None = None
) -> list[float]:
    """The score of each image; NaN where a scene has nothing to detect (no person, for poses).

    Args:
        condition: a key of `NAMES`.
        truth: for each image the condition map (canny, scribble), or depth (H, W) in m, normals (H, W, 3),
            classes (H, W), key points (people, 18, 3).
        perception: the perception model; the bundled one by default.
    """
    if condition in _DETECTORS:
        detect = _DETECTORS[condition]
        pairs = zip(images, truth, strict=True)
        return [edge_f1(_strokes(detect(image)), _strokes(expected)) for image, expected in pairs]
    perception = perception or PerceptionModel()
    scores = []
    for start in range(0, len(images), 50):
        perceived = perception.predict(list(images[start : start + 50]))
        for row, expected in enumerate(truth[start : start + 50]):
            scores.append(_PERCEIVED[condition](perceived, row, expected))
    return scores
