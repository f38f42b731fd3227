"""Detectors with parameters by chance, as the paper trains on them; without a source of chance, their usual ones."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from maquette.conditions.detect import Detector
from maquette.conditions.detectors.canny import DIORAMA, canny, random_thresholds
from maquette.conditions.detectors.scribble import scribble
from maquette.conditions.requirements import random_options, random_seed
from maquette.data.pairs import ConditionFn


def draw_canny(image: Image.Image, rng: np.random.Generator | None = None) -> Image.Image:
    """Thresholds at random, or the diorama's own."""
    if rng is None:
        return canny(image, **DIORAMA)
    return canny(image, *random_thresholds(rng))


def draw_scribble(image: Image.Image, rng: np.random.Generator | None = None) -> Image.Image:
    """Strokes thresholded, masked and thickened by chance, but for one in five."""
    return scribble(image, seed=random_seed(rng) if rng is not None and rng.random() < 0.8 else None)


DRAWS: dict[str, ConditionFn] = {"canny": draw_canny, "scribble": draw_scribble}
"""What the diorama's ControlNets are trained with."""


@dataclass(frozen=True)
class RandomDetector:
    """Any detector's maps, by chance where it takes a seed.

    Opened on the CPU in each process that uses it: learned detectors are slow there, annotate images with them first.
    """

    detector: str

    def __call__(self, image: Image.Image, rng: np.random.Generator | None = None) -> Image.Image:
        detector = _opened(self.detector)
        return detector(image, **({} if rng is None else random_options(detector.spec, rng)))


def draw_named(name: str) -> ConditionFn:
    """The conditions of a detector, as a training draws them afresh every time."""
    if name in DRAWS:
        return DRAWS[name]
    _opened(name)  # what is lacking is told of now, not as a fault of every image
    return RandomDetector(name)


@cache
def _opened(name: str) -> Detector:
    return Detector(name, device="cpu")
