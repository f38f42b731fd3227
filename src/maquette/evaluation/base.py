"""Measures of a base: reconstruction quality, alignment of its images with their prompts, and shape of its things.

Each is a mean with its 95 % interval over scenes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.base import Base
from maquette.conditions.networks.perception import PerceptionModel
from maquette.diorama import CLASSES, Scene
from maquette.diorama.things import Thing
from maquette.foundation.pixels import to_signed
from maquette.metrics.intervals import Interval, bootstrap
from maquette.metrics.maps import psnr
from maquette.metrics.shape import roundness, straightness
from maquette.metrics.shape import things as parts_of

LEAST_PIXELS = 25  # of a class, for it to count as shown in an image of 128 × 128
LEAST_SHARE = 0.3  # of the coloured pixels of a class, divided by the number of things of that class


def reconstruction(base: Base, images: list[Image.Image], batch_size: int = 50) -> Interval:
    """PSNR in dB of images encoded, decoded and rounded to bytes."""
    pairs = zip(through(base, images, batch_size), images, strict=True)
    return bootstrap(np.array([psnr(to_signed(decoded)[None], to_signed(image)[None]) for decoded, image in pairs]))


def through(base: Base, images: list[Image.Image], batch_size: int = 50) -> list[Image.Image]:
    """Images encoded and decoded: the best that a generation could look like."""
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    return [image for batch in batches for image in base.decode_latents(base.encode_images(batch))]


@dataclass(frozen=True)
class PromptAlignment:
    """How much of the prompts the images show, in [0, 1]."""

    found: Interval  # share of the things in a prompt whose class is detected
    coloured: Interval  # share of them whose class is detected in the right colour


def prompt_alignment(
    images: list[Image.Image], scenes: list[Scene], perception: PerceptionModel, batch_size: int = 50
) -> PromptAlignment:
    """Share of the things that scenes' captions name which the images generated from them show."""
    shares = []  # of the things of each scene: found, coloured
    for start in range(0, len(images), batch_size):
        perceived = perception.predict(images[start : start + batch_size])
        for row, scene in enumerate(scenes[start : start + batch_size]):
            things = scene.world.things
            verdicts = [shows(perceived.classes[row], perceived.colours[row], thing, things) for thing in things]
            shares.append(np.mean(verdicts, axis=0))
    found, coloured = np.array(shares).T
    return PromptAlignment(bootstrap(found), bootstrap(coloured))


def names_its_things(scene: Scene) -> bool:
    """Whether the caption describes the scene; some don't, on purpose."""
    return all(thing.phrase in scene.caption for thing in scene.world.things)


def shows(
    classes: NDArray[np.uint8], colours: NDArray[np.uint8], thing: Thing, things: tuple[Thing, ...]
) -> tuple[bool, bool]:
    """Whether maps (H, W) of classes and colours show a thing's class, and whether in the thing's colour."""
    expected = next(part.colour for part in thing.parts if part.colour)
    return sees(classes, colours, thing.kind, expected, sum(other.kind == thing.kind for other in things))


def sees(
    classes: NDArray[np.uint8], colours: NDArray[np.uint8], kind: str, colour: int, alike: int
) -> tuple[bool, bool]:
    """Whether maps (H, W) show a class, and whether in a colour (1 + index), where `alike` of it were asked for."""
    of_kind = classes == CLASSES.index(kind)
    if of_kind.sum() < LEAST_PIXELS:
        return False, False
    labels = colours[of_kind & (colours > 0)]
    return True, len(labels) > 0 and float((labels == colour).mean()) >= LEAST_SHARE / alike


Judge = Callable[[NDArray[np.uint8], NDArray[np.bool_]], float]

SHAPES: dict[str, tuple[str, Judge]] = {
    "straight cubes": ("cube", straightness),
    "straight houses": ("house", straightness),
    "round balls": ("ball", lambda image, thing: roundness(thing)),
}
"""The scores of shape: the class each judges, and how, from an image (H, W, 3) and a thing's mask (H, W)."""


def shapes(images: list[Image.Image], perception: PerceptionModel, batch_size: int = 50) -> dict[str, Interval]:
    """The scores of shape of the things that the perception model sees in the images, each image counting alike."""
    scores: dict[str, list[float]] = {name: [] for name in SHAPES}
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        for image, classes in zip(batch, perception.predict(batch).classes, strict=True):
            for name, (kind, judge) in SHAPES.items():
                seen = parts_of(classes == CLASSES.index(kind))
                judged = [judge(np.asarray(image), thing) for thing in seen]
                valid = [score for score in judged if not np.isnan(score)]
                scores[name].append(float(np.mean(valid)) if valid else np.nan)
    return {name: bootstrap(np.array(found)) for name, found in scores.items()}
