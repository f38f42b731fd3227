"""Is a base any good? Reconstructions, obedience to prompts, and distance from true scenes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.base import Base
from maquette.conditions.networks.perception import Eye
from maquette.diorama import CLASSES, Scene
from maquette.diorama.things import Thing
from maquette.foundation.pixels import to_signed
from maquette.metrics.pixels import psnr

LEAST_PIXELS = 25  # of a kind, to be found in a picture of 128 × 128
LEAST_SHARE = 0.3  # of the coloured pixels of a kind, divided by how many things of the kind there are


def reconstruction(base: Base, pictures: list[Image.Image], batch_size: int = 50) -> float:
    """Mean PSNR of pictures that went through the autoencoder and became bytes again, dB."""
    pairs = zip(through(base, pictures, batch_size), pictures, strict=True)
    return float(np.mean([psnr(to_signed(again)[None], to_signed(one)[None]).item() for again, one in pairs]))


def through(base: Base, pictures: list[Image.Image], batch_size: int = 50) -> list[Image.Image]:
    """Pictures through the autoencoder: what a perfect generation would look like."""
    batches = [pictures[start : start + batch_size] for start in range(0, len(pictures), batch_size)]
    return [again for batch in batches for again in base.decode_latents(base.encode_pictures(batch))]


@dataclass(frozen=True)
class Obedience:
    found: float  # share of the things in the prompts whose kind is seen
    coloured: float  # share of them whose kind is seen in the right colour


def obedience(pictures: list[Image.Image], scenes: list[Scene], eye: Eye, batch_size: int = 50) -> Obedience:
    """Whether each picture, made from its scene's caption, shows what the caption names."""
    verdicts: list[tuple[bool, bool]] = []
    for start in range(0, len(pictures), batch_size):
        seen = eye.see(pictures[start : start + batch_size])
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
