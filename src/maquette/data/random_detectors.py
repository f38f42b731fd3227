"""Detectors with random parameters, as in the paper's training; the default ones without a random generator."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from maquette.conditions.detect import Detector
from maquette.conditions.detectors.canny import DIORAMA, canny, random_thresholds
from maquette.conditions.detectors.scribble import scribble
from maquette.conditions.requirements import random_options, random_seed
from maquette.data.pairs import ConditionFn


def random_canny(image: Image.Image, rng: np.random.Generator | None = None) -> Image.Image:
    """Canny edges with random thresholds, or without `rng` the diorama's."""
    if rng is None:
        return canny(image, **DIORAMA)
    return canny(image, *random_thresholds(rng))


def random_scribble(image: Image.Image, rng: np.random.Generator | None = None) -> Image.Image:
    """A scribble, in four of five cases randomly thresholded, masked and thickened."""
    return scribble(image, seed=random_seed(rng) if rng is not None and rng.random() < 0.8 else None)


DRAWS: dict[str, ConditionFn] = {"canny": random_canny, "scribble": random_scribble}
"""The random detectors that the diorama's ControlNets are trained with."""


@dataclass(frozen=True)
class RandomDetector:
    """Any detector, with random parameters if it takes a seed.

    Each process that uses it loads the detector on its CPU. Networks are slow there: annotate the images first.
    """

    detector: str

    def __call__(self, image: Image.Image, rng: np.random.Generator | None = None) -> Image.Image:
        detector = _opened(self.detector)
        return detector(image, **({} if rng is None else random_options(detector.spec, rng)))


def draw_named(name: str) -> ConditionFn:
    """The detector of a name, for conditions that training computes anew each time."""
    if name in DRAWS:
        return DRAWS[name]
    _opened(name)  # missing weights fail now, not once per image
    return RandomDetector(name)


@cache
def _opened(name: str) -> Detector:
    return Detector(name, device="cpu")
