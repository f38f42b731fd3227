"""The metric of each condition: the package's own, and those of users and other packages."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal

from PIL import Image

from maquette.conditions.requirements import kind_of
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.registry import Registry
from maquette.metrics import condition_maps, keypoints

Score = Callable[[Image.Image, Image.Image], float]
"""The map detected in a generated image, and the one it should show, of one size; a score in [0, 1], 1 for equal maps,
NaN where there is nothing to score."""


@dataclass(frozen=True)
class Measure:
    """A further comparison, which evaluations report beside the score."""

    label: str
    compare: Callable[[Any, Any], float]  # found and expected: maps, or people
    better: Literal["higher", "lower"] = "higher"
    of: Literal["maps", "people"] = "maps"


@dataclass(frozen=True)
class Metric:
    """How maps of a condition are compared."""

    label: str  # in tables and plots
    score: Score
    is_builtin: bool = False
    more: tuple[Measure, ...] = ()


STROKES = Metric("edge F1", condition_maps.strokes, True, (Measure("SSIM", condition_maps.similarity),))
DISPARITIES = Metric(
    "depths within 10 %",
    condition_maps.disparities,
    True,
    (Measure("depth δ₁", condition_maps.depth_ratio), Measure("depth RMSE", condition_maps.depth_error, "lower")),
)
NORMALS = Metric(
    "normals within 22.5°",
    condition_maps.normals,
    True,
    (Measure("angle of normals, °", condition_maps.normal_error, "lower"),),
)
CLASSES = Metric(
    "mean IoU",
    condition_maps.classes,
    True,
    (
        Measure("mean IoU, black aside", condition_maps.labelled_classes),
        Measure("pixel accuracy, black aside", condition_maps.accuracy),
    ),
)
LIMBS = Metric(
    "limb F1",
    condition_maps.limbs,
    True,
    (Measure("OKS", keypoints.oks, of="people"), Measure("PCK at 0.1", keypoints.pck, of="people")),
)

metrics: Registry[Metric] = Registry("metric")
for _names, _metric in {
    ("canny", "scribble", "xdog", "softedge", "hed", "lineart", "lineart_anime", "hough", "lsd", "mlsd"): STROKES,
    ("depth", "diorama/depth"): DISPARITIES,
    ("normal", "diorama/normal"): NORMALS,
    ("segmentation", "diorama/segmentation"): CLASSES,
    ("pose", "diorama/pose"): LIMBS,
}.items():
    for _name in _names:
        metrics.add(_name, _metric)


def register_metric(condition: str, label: str = "fidelity") -> Callable[[Score], Score]:
    """Decorate a function that compares two maps of a condition; training and evaluation then measure it.

    Packages do the same with an entry point in the group "maquette.metrics", named after the condition.

    Args:
        condition: the name of a detector, which finds the map in a generated image.
        label: what the score is called in tables and plots.

    The function takes the detected and the expected map, RGB images of one size, and returns a score in [0, 1], or NaN
    where there is nothing to score. Raises `MaquetteError` for a condition that has a metric of the package.
    """
    if condition in metrics and metrics[condition].is_builtin:
        raise MaquetteError(f"The condition {condition!r} has a metric already; register one for another name.")

    def register(score: Score) -> Score:
        def checked(found: Image.Image, expected: Image.Image) -> float:
            value = score(found, expected)
            if not isinstance(value, float | int) or value < 0 or value > 1:
                raise MaquetteError(
                    f"A metric returns a number from 0 to 1, or NaN; that of {condition!r} returned {value!r}."
                )
            return float(value)

        metrics.add(condition, Metric(label, checked), anew=condition in metrics)
        return score

    return register


def metric_of(condition: str) -> Metric | None:
    """The metric of a condition; for class maps without one, the mean IoU of their colours. None if there is none."""
    if condition not in metrics:
        _load_others()
    if condition in metrics:
        return metrics[condition]
    return CLASSES if kind_of(condition) == "classes" else None


@cache
def _load_others() -> None:
    """Register the metrics that other packages provide by entry points."""
    for entry in entry_points(group="maquette.metrics"):
        try:
            register_metric(entry.name)(entry.load())
        except Exception as error:  # a broken package must not disable the other metrics
            warnings.warn(f"The metric {entry.name!r} cannot be loaded: {error}", MaquetteWarning, stacklevel=2)
