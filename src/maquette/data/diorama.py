"""Pairs of the diorama: each scene's image, one of its condition maps and its caption."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.detectors.canny import RANDOM_THRESHOLDS
from maquette.conditions.drawing.class_maps import class_map
from maquette.conditions.drawing.doodles import doodle
from maquette.conditions.drawing.skeletons import pose_map
from maquette.conditions.drawing.surfaces import depth_map, normal_map
from maquette.data.blocks import Blocks
from maquette.data.crop import CropView
from maquette.data.pairs import ConditionFn
from maquette.data.random_detectors import random_canny, random_scribble
from maquette.data.sources.jsonl import Example
from maquette.diorama import SIZE, constants, dataset
from maquette.diorama.conflicting import conflicting
from maquette.diorama.things import CLASSES
from maquette.diorama.wording import world_of
from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown

SCENES = Path("runs/scenes")
"""The default folder for rendered scenes, which later runs reuse."""
DOODLES = 0.5
"""The share of a training's scribbles that are outlines of things, each by a few strokes of a pen."""
FIRST_THING = CLASSES.index("ball")


@dataclass(frozen=True)
class Condition:
    """How a condition map is computed from a scene's exact values."""

    fields: tuple[str, ...]  # of `dataset.load`
    draw: Callable[..., Image.Image]  # the map, from a scene's fields and a random generator (None: default settings)
    ground_truth: Callable[..., Any]  # what `metrics.fidelity` compares an image with
    words: str  # what the map shows, for the ControlNet's contract
    is_usable: Callable[..., NDArray[np.bool_]] | None = None  # of all scenes' fields, (N,): not empty; None for all


def _of_pixels(detect: ConditionFn) -> Callable[..., Image.Image]:
    return lambda pixels, rng=None: detect(Image.fromarray(pixels), rng)


def _exact(convert: Callable[[Any], Image.Image]) -> Callable[..., Image.Image]:
    return lambda values, rng=None: convert(values)


def _pose(keypoints: NDArray[np.float32]) -> Image.Image:
    return pose_map(keypoints[keypoints[:, :, 2].any(axis=1)], (SIZE, SIZE))


def _scribble(
    pixels: NDArray[np.uint8], classes: NDArray[np.uint8], rng: np.random.Generator | None = None
) -> Image.Image:
    """Strokes along all that is seen, or, by chance, around things alone, as people draw them."""
    if rng is not None and rng.random() < DOODLES:
        return doodle(classes, FIRST_THING, rng)
    return random_scribble(Image.fromarray(pixels), rng)


CONDITIONS: dict[str, Condition] = {
    "canny": Condition(
        ("images",),
        _of_pixels(random_canny),
        _of_pixels(random_canny),
        f"thresholds drawn: {RANDOM_THRESHOLDS}",
    ),
    "depth": Condition(("depth",), _exact(depth_map), lambda d: d.astype(np.float32), "exact depth, near bright"),
    "normal": Condition(
        ("normals",),
        _exact(lambda n: normal_map(n / 127)),
        lambda n: n.astype(np.float32) / 127,
        "exact normals: right, up, towards the viewer",
    ),
    "pose": Condition(
        ("keypoints",),
        _exact(_pose),
        lambda keypoints: keypoints,
        "exact key points, in Openpose's order and colours",
        lambda keypoints: (keypoints[..., 2] > 0).any(axis=(1, 2)),
    ),
    "scribble": Condition(
        ("images", "classes"),
        _scribble,
        _scribble,
        "strokes thresholded, masked and thickened by chance, or outlines of the things alone, of any width",
    ),
    "segmentation": Condition(("classes",), _exact(class_map), lambda classes: classes, "exact classes, a colour each"),
}


assert tuple(CONDITIONS) == constants.CONDITIONS


def condition_named(name: str) -> Condition:
    """Raises `MaquetteError` for a name that is not in `CONDITIONS`."""
    if name not in CONDITIONS:
        raise MaquetteError(unknown("condition of the diorama", name, list(CONDITIONS)))
    return CONDITIONS[name]


def held_out_pairs(
    condition: str, count: int, folder: Path = SCENES, detect: ConditionFn | None = None
) -> tuple["Pairs", list[int]]:
    """Validation scenes, and the first `count` rows among them whose condition map is not empty.

    For poses these are the first scenes with people; for every other condition the first scenes.
    """
    scenes = count
    while True:
        pairs = Pairs.load(condition, range(dataset.VALIDATION, dataset.VALIDATION + scenes), folder, detect)
        rows = [int(row) for row in pairs.usable()[:count]]
        if len(rows) == count:
            return pairs, rows
        scenes *= 2


@dataclass(frozen=True)
class Pairs:
    """Scenes of a range of seeds, with one condition."""

    condition: str
    seeds: range
    captions: list[str]
    images: NDArray[np.uint8]  # (N, H, W, 3)
    fields: tuple[NDArray[Any], ...]  # what the condition map is computed from, N rows each
    detect: ConditionFn | None = None  # computes the condition map from the image instead

    @staticmethod
    def load(condition: str, seeds: range, folder: Path = SCENES, detect: ConditionFn | None = None) -> "Pairs":
        """Render the missing scenes, then load all (about 50 KiB per scene, and as much for its condition)."""
        names = condition_named(condition).fields
        dataset.prepare(seeds, folder)
        images = dataset.load(seeds, folder, "images")
        fields = tuple(images if name == "images" else dataset.load(seeds, folder, name) for name in names)
        return Pairs(condition, seeds, dataset.load_captions(seeds, folder), images, fields, detect)

    def __len__(self) -> int:
        return len(self.captions)

    def blocks(self) -> Blocks:
        """One row per block: everything is in memory."""
        return Blocks(self.telling())

    def telling(self) -> NDArray[np.intp]:
        """The rows whose condition map is not empty, (n,): for poses those with a person, as in the paper's data.

        Raises `MaquetteError` if there are none.
        """
        rows = self.usable()
        if not len(rows):
            raise MaquetteError(f"None of the {len(self)} scenes shows a person, which poses need; take more scenes.")
        return rows

    def usable(self) -> NDArray[np.intp]:
        """The rows whose condition map is not empty, (n,); there may be none."""
        is_usable = CONDITIONS[self.condition].is_usable
        return np.arange(len(self)) if is_usable is None else np.flatnonzero(is_usable(*self.fields))

    def shape(self, row: int) -> tuple[int, int]:
        return SIZE, SIZE

    def views(self) -> tuple[CropView, ...]:
        return (CropView(),)

    def view(self, rng: np.random.Generator) -> CropView:
        return CropView()

    def content(self, row: int) -> bytes:
        return hashlib.blake2b(self.images[row].tobytes()).digest()

    def signature(self, row: int) -> bytes:
        return self.content(row) + self.text(row).encode()

    def where(self, row: int) -> str:
        return f"scene {self.seeds[row]}"

    def text(self, row: int) -> str:
        return self.captions[row]

    def conflicting(self, row: int) -> str:
        seed = self.seeds[row]
        return conflicting(world_of(seed), seed)

    def image(self, row: int, view: CropView) -> Image.Image:
        return Image.fromarray(self.images[row])

    def pair(self, row: int, view: CropView, rng: np.random.Generator | None) -> Example:
        return Example(self.image(row, view), self.condition_map(row, view, rng), self.text(row))

    def condition_map(self, row: int, view: CropView, rng: np.random.Generator | None) -> Image.Image:
        """The condition map of a row: with the paper's random parameters, or without `rng` the default ones."""
        if self.detect is not None:
            return self.detect(self.image(row, view), rng)
        return CONDITIONS[self.condition].draw(*(field[row] for field in self.fields), rng)

    def standard(self, row: int) -> Image.Image:
        """The condition map with the default parameters."""
        return self.condition_map(row, CropView(), None)

    def ground_truth(self, row: int) -> Any:
        """What `metrics.fidelity` compares an image with."""
        return CONDITIONS[self.condition].ground_truth(*(field[row] for field in self.fields))
