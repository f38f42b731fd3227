"""Is a base any good? Reconstructions, prompt_alignment to prompts, and distance from true scenes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.base import Base
from maquette.conditions.networks.perception import PerceptionModel
from maquette.diorama import CLASSES, Scene
from maquette.diorama.things import Thing
from maquette.foundation.pixels import to_signed
from maquette.metrics.pixels import psnr

LEAST_PIXELS = 25  # of a kind, to be found in an image of 128 × 128
LEAST_SHARE = 0.3  # of the coloured pixels of a kind, divided by how many things of the kind there are


def reconstruction(base: Base, images: list[Image.Image], batch_size: int = 50) -> float:
    """Mean PSNR of images that went through the autoencoder and became bytes again, dB."""
    pairs = zip(through(base, images, batch_size), images, strict=True)
    return float(np.mean([psnr(to_signed(again)[None], to_signed(one)[None]).item() for again, one in pairs]))


def through(base: Base, images: list[Image.Image], batch_size: int = 50) -> list[Image.Image]:
    """Images through the autoencoder: what a perfect generation would look like."""
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    return [again for batch in batches for again in base.decode_latents(base.encode_images(batch))]


@dataclass(frozen=True)
class Obedience:
    found: float  # share of the things in the prompts whose kind is seen
    coloured: float  # share of them whose kind is seen in the right colour


def prompt_alignment(
    images: list[Image.Image], scenes: list[Scene], eye: PerceptionModel, batch_size: int = 50
) -> Obedience:
    """Whether each image, made from its scene's caption, shows what the caption names."""
    verdicts: list[tuple[bool, bool]] = []
    for start in range(0, len(images), batch_size):
        seen = eye.predict(images[start : start + batch_size])
        for row, scene in enumerate(scenes[start : start + batch_size]):
            things = scene.world.things
            verdicts += [shows(seen.classes[row], seen.colours[row], thing, things) for thing in things]
    found, coloured = np.mean(verdicts, axis=0)
    return Obedience(float(found), float(coloured))


def shows(
    classes: NDArray[np.uint8], colours: NDArray[np.uint8], thing: Thing, things: tuple[Thing, ...]
) -> tuple[bool, bool]:
    """Whether a thing's kind is seen, and whether in the thing's colour."""
    wanted = next(part.colour for part in thing.parts if part.colour)
    return sees(classes, colours, thing.kind, wanted, sum(other.kind == thing.kind for other in things))


def sees(
    classes: NDArray[np.uint8], colours: NDArray[np.uint8], kind: str, colour: int, alike: int
) -> tuple[bool, bool]:
    """Whether a kind is seen, and whether in a colour (1 + index), where so many things of the kind were asked for."""
    of_kind = classes == CLASSES.index(kind)
    if of_kind.sum() < LEAST_PIXELS:
        return False, False
    labels = colours[of_kind & (colours > 0)]
    return True, len(labels) > 0 and float((labels == colour).mean()) >= LEAST_SHARE / alike
