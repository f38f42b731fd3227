"""Measures of a base: reconstruction quality, and alignment of its images with their prompts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.base import Base
from maquette.conditions.networks.perception import PerceptionModel
from maquette.diorama import CLASSES, Scene
from maquette.diorama.things import Thing
from maquette.foundation.pixels import to_signed
from maquette.metrics.maps import psnr

LEAST_PIXELS = 25  # of a class, for it to count as shown in an image of 128 × 128
LEAST_SHARE = 0.3  # of the coloured pixels of a class, divided by the number of things of that class


def reconstruction(base: Base, images: list[Image.Image], batch_size: int = 50) -> float:
    """Mean PSNR in dB of images encoded, decoded and rounded to bytes."""
    pairs = zip(through(base, images, batch_size), images, strict=True)
    return float(np.mean([psnr(to_signed(decoded)[None], to_signed(image)[None]).item() for decoded, image in pairs]))


def through(base: Base, images: list[Image.Image], batch_size: int = 50) -> list[Image.Image]:
    """Images encoded and decoded: the best that a generation could look like."""
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    return [image for batch in batches for image in base.decode_latents(base.encode_images(batch))]


@dataclass(frozen=True)
class PromptAlignment:
    """How much of the prompts the images show, in [0, 1]."""

    found: float  # share of the things in the prompts whose class is detected
    coloured: float  # share of them whose class is detected in the right colour


def prompt_alignment(
    images: list[Image.Image], scenes: list[Scene], perception: PerceptionModel, batch_size: int = 50
) -> PromptAlignment:
    """Share of the things that scenes' captions name which the images generated from them show."""
    verdicts: list[tuple[bool, bool]] = []
    for start in range(0, len(images), batch_size):
        perceived = perception.predict(images[start : start + batch_size])
        for row, scene in enumerate(scenes[start : start + batch_size]):
            things = scene.world.things
            verdicts += [shows(perceived.classes[row], perceived.colours[row], thing, things) for thing in things]
    found, coloured = np.mean(verdicts, axis=0)
    return PromptAlignment(float(found), float(coloured))


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
