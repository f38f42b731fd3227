"""Detectors with random parameters, as in the paper's training; the default ones without a random generator."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from maquette.conditions.detect import Detector
from maquette.conditions.detectors.canny import DIORAMA, canny, random_thresholds
from maquette.conditions.detectors.scribble import scribble
from maquette.conditions.registry import detector_spec
from maquette.conditions.requirements import random_seed
from maquette.data.pairs import ConditionFn
from maquette.data.random_options import OptionChances
from maquette.diorama.constants import DETECTED

TRIAL = 64  # pixels a side of the image that a detector is tried on


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

assert tuple(DRAWS) == DETECTED


@dataclass(frozen=True)
class RandomDetector:
    """Any detector, with options drawn for each image, and a seed of its own if it takes one.

    Each process that uses it loads the detector. Networks are slow on a CPU: there, annotate the images first.
    """

    detector: str
    options: OptionChances
    weights: str | None = None
    device: str = "cpu"

    def __call__(self, image: Image.Image, rng: np.random.Generator | None = None) -> Image.Image:
        detector = self.opened()
        options = self.options.typical() if rng is None else self.options.draw(detector.spec, rng)
        return detector(image, **options)

    def opened(self) -> Detector:
        """The detector with its weights, loaded once per process."""
        return _opened(self.detector, self.weights, self.device)

    def __str__(self) -> str:
        """The options as given, with the weights, and whether a seed is drawn; empty without any."""
        spec = detector_spec(self.detector)
        has_seed = spec.takes_seed and "seed" not in self.options.typical()
        is_seeded = has_seed and not spec.leaves_no_chance(self.options.typical())
        weights = f"weights = {self.weights}" if self.weights else ""
        return ", ".join(filter(None, (str(self.options), weights, "a seed for each image" * is_seeded)))


def draw_named(
    name: str, options: Mapping[str, Any] | None = None, weights: str | None = None, device: str = "cpu"
) -> ConditionFn:
    """The detector of a name, for conditions that training computes anew each time.

    Args:
        options: the detector's options: values, or texts such as "uniform(20, 120)" and "choice(hed, softedge)".
        weights: as for `Detector`.
        device: as for `Detector`.

    Raises `MaquetteError` for options that do not fit the detector, and for weights that cannot be loaded.
    """
    if name in DRAWS and not options and weights is None:
        return DRAWS[name]
    drawn = random_detector(name, options, weights, device)
    detector = drawn.opened()  # missing weights fail now, not once per image; some are loaded on first use only
    for values in drawn.options.samples():
        detector(Image.new("RGB", (TRIAL, TRIAL), "grey"), **values)
    return drawn


def random_detector(
    name: str, options: Mapping[str, Any] | None, weights: str | None = None, device: str = "cpu"
) -> RandomDetector:
    """The detector of a name, not loaded yet. Raises `MaquetteError` for options that do not fit it."""
    return RandomDetector(name, OptionChances.of(detector_spec(name), options or {}), weights, device)


@cache
def _opened(name: str, weights: str | None, device: str) -> Detector:
    return Detector(name, weights, device)
