"""What of an image a model sees: scaled, cut and perhaps mirrored, image and condition exactly alike."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from maquette.conditions.requirements import resampling
from maquette.data.sources.jsonl import Example
from maquette.errors import MaquetteError

Crop = Literal["centre", "random"]
STEP = 64  # pixels: sides are multiples of it
LONGEST = 2.5  # of the sides' ratio, among buckets


@dataclass(frozen=True)
class ResizeCrop:
    """How images come to a model's size: so that the frame is covered, what stands over cut off.

    With buckets an image goes to the shape, of about the same area, that cuts least of it.
    """

    size: tuple[int, int] = (512, 512)  # width, height; pixels
    buckets: bool = False
    crop: Crop = "centre"  # or "random", along the side that stands over
    flip: float = 0.0  # share of pairs that are mirrored; not for conditions that know left from right
    categorical: bool = False  # class maps: a pixel's class is never mixed from its neighbours'

    def __post_init__(self) -> None:
        if any(side < STEP or side % STEP for side in self.size):
            raise MaquetteError(f"A frame's sides are multiples of {STEP} pixels, not {self.size[0]}×{self.size[1]}.")
        if not 0 <= self.flip <= 1:
            raise MaquetteError(f"flip is a share from 0 to 1, not {self.flip}.")
        if self.crop not in ("centre", "random"):
            raise MaquetteError(f"crop is 'centre' or 'random', not {self.crop!r}.")

    def shape(self, given: tuple[int, int]) -> tuple[int, int]:
        """The frame (width, height) for an image of a size."""
        if not self.buckets:
            return self.size
        return min(self.shapes(), key=lambda one: (abs(math.log(given[0] * one[1] / (given[1] * one[0]))), -one[0]))

    def shapes(self) -> list[tuple[int, int]]:
        """All frames: of buckets for every width the tallest that has no more pixels than `size`."""
        if not self.buckets:
            return [self.size]
        area = self.size[0] * self.size[1]
        widths = range(STEP, int(math.sqrt(area * LONGEST)) + 1, STEP)
        shapes = [(width, area // width // STEP * STEP) for width in widths]
        return [(w, h) for w, h in shapes if h and max(w / h, h / w) <= LONGEST]

    def view(self, rng: np.random.Generator) -> "CropView":
        """A draw of what chance decides about a pair."""
        place = rng.random() if self.crop == "random" else 0.5
        return CropView(place, bool(rng.random() < self.flip))

    def views(self) -> tuple["CropView", ...] | None:
        """All that `view` can draw; None where they cannot be counted."""
        if self.crop == "random":
            return None
        return tuple(CropView(mirrored=hand) for hand in (False, True)[self.flip == 1 : 1 + (self.flip > 0)])

    def frame(self, example: Example, view: "CropView") -> Example:
        """Image and condition in one frame; the same place of it, and the same hand, in both."""
        size = self.shape(example.image.size)
        condition = example.condition and self.frame_condition(example.condition, size, view)
        return Example(_cut(example.image, size, view, Image.Resampling.LANCZOS), condition, example.text)

    def frame_condition(self, condition: Image.Image, size: tuple[int, int], view: "CropView") -> Image.Image:
        """A condition alone, in the frame (width, height) of its image."""
        return _cut(condition, size, view, resampling(self.categorical))


@dataclass(frozen=True)
class CropView:
    """Which part of a pair is seen, and which way round."""

    place: float = 0.5  # from 0 to 1 along the side that stands over
    mirrored: bool = False


def _cut(image: Image.Image, size: tuple[int, int], view: CropView, method: Image.Resampling) -> Image.Image:
    centering = (view.place, view.place)
    cut = image if image.size == size else ImageOps.fit(image, size, method, centering=centering)
    return ImageOps.mirror(cut) if view.mirrored else cut
