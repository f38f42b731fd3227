"""Resize, crop and flip: image and condition get exactly the same transform."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from maquette.data.sources.jsonl import Example
from maquette.errors import MaquetteError
from maquette.foundation.images import MapKind, fit

Crop = Literal["centre", "random"]
STEP = 64  # pixels: sides are multiples of it
LONGEST = 2.5  # the largest aspect ratio among buckets


@dataclass(frozen=True)
class ResizeCrop:
    """Scale images until they cover the model's frame, then crop the excess.

    With buckets, each image gets the frame of about the same area whose aspect ratio is closest to its own.

    Raises `MaquetteError` for sides that are not multiples of 64 pixels, and for an unknown `crop` or `flip`.
    """

    size: tuple[int, int] = (512, 512)  # width, height; pixels
    buckets: bool = False
    crop: Crop = "centre"  # or "random", along the side that is cropped
    flip: float = 0.0  # probability of mirroring a pair; 0 for conditions that distinguish left from right
    kind: MapKind = "smooth"  # how conditions of another size are resized, as `fit` takes it

    def __post_init__(self) -> None:
        if any(side < STEP or side % STEP for side in self.size):
            raise MaquetteError(f"A frame's sides are multiples of {STEP} pixels, not {self.size[0]}×{self.size[1]}.")
        if not 0 <= self.flip <= 1:
            raise MaquetteError(f"flip is a share from 0 to 1, not {self.flip}.")
        if self.crop not in ("centre", "random"):
            raise MaquetteError(f"crop is 'centre' or 'random', not {self.crop!r}.")

    def shape(self, size: tuple[int, int]) -> tuple[int, int]:
        """The frame (width, height) of an image of that size (width, height)."""
        if not self.buckets:
            return self.size
        width, height = size
        return min(self.shapes(), key=lambda frame: (abs(math.log(width * frame[1] / (height * frame[0]))), -frame[0]))

    def shapes(self) -> list[tuple[int, int]]:
        """All frames (width, height): with buckets, per width the tallest with no more pixels than `size`."""
        if not self.buckets:
            return [self.size]
        area = self.size[0] * self.size[1]
        widths = range(STEP, int(math.sqrt(area * LONGEST)) + 1, STEP)
        shapes = [(width, area // width // STEP * STEP) for width in widths]
        return [(w, h) for w, h in shapes if h and max(w / h, h / w) <= LONGEST]

    def view(self, rng: np.random.Generator) -> "CropView":
        """A random crop position and flip."""
        place = rng.random() if self.crop == "random" else 0.5
        return CropView(place, bool(rng.random() < self.flip))

    def views(self) -> tuple["CropView", ...] | None:
        """All views that `view` can return, or None for random crops, of which there is no finite number."""
        if self.crop == "random":
            return None
        return tuple(CropView(mirrored=mirrored) for mirrored in (False, True)[self.flip == 1 : 1 + (self.flip > 0)])

    def frame(self, example: Example, view: "CropView") -> Example:
        """Image and condition in the same frame, cropped and flipped alike."""
        size = self.shape(example.image.size)
        condition = example.condition and self.frame_condition(example.condition, size, view)
        return Example(_crop(example.image, size, view, "smooth"), condition, example.text)

    def frame_condition(self, condition: Image.Image, size: tuple[int, int], view: "CropView") -> Image.Image:
        """A condition alone, in its image's frame (width, height)."""
        return _crop(condition, size, view, self.kind)


@dataclass(frozen=True)
class CropView:
    """Where a pair is cropped, and whether it is mirrored."""

    place: float = 0.5  # from 0 to 1 along the side that is cropped
    mirrored: bool = False


def _crop(image: Image.Image, size: tuple[int, int], view: CropView, kind: MapKind) -> Image.Image:
    cropped = fit(image, size, kind, view.place)
    return ImageOps.mirror(cropped) if view.mirrored else cropped
