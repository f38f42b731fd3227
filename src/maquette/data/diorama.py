"""Pairs of the diorama: each scene's picture, one of its condition maps and its caption."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.canny import DIORAMA, canny
from maquette.conditions.depth import depth_map
from maquette.conditions.normal import normal_map
from maquette.conditions.pose import pose_map
from maquette.conditions.scribble import scribble
from maquette.conditions.segmentation import class_map
from maquette.diorama import SIZE, dataset
from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown

SCENES = Path("runs/scenes")
"""Where rendered scenes are kept between runs."""


@dataclass(frozen=True)
class Condition:
    """How a condition map is made of what a scene knows."""

    fields: tuple[str, ...]  # of `dataset.load`
    draw: Callable[..., Image.Image]  # from the fields of one scene and a generator
    standard: Callable[..., Image.Image]  # the same without chance, for evaluation and for users
    truth: Callable[..., Any]  # what `metrics.fidelity` compares a picture with
    words: str  # what is drawn, for the contract of a ControlNet
    tells: Callable[..., NDArray[np.bool_]] | None = None  # of all scenes' fields: which say anything; None for all


def _random_canny(pixels: NDArray[np.uint8], rng: np.random.Generator) -> Image.Image:
    low = rng.uniform(30, 130)
    return canny(Image.fromarray(pixels), low, min(2040, low * rng.uniform(1.5, 3)))


def _random_scribble(pixels: NDArray[np.uint8], rng: np.random.Generator) -> Image.Image:
    seed = int(rng.integers(2**31)) if rng.random() < 0.8 else None
    return scribble(Image.fromarray(pixels), seed=seed)


def _standard_canny(pixels: NDArray[np.uint8]) -> Image.Image:
    return canny(Image.fromarray(pixels), **DIORAMA)


def _standard_scribble(pixels: NDArray[np.uint8]) -> Image.Image:
    return scribble(Image.fromarray(pixels))


def _exact(draw: Callable[[Any], Image.Image]) -> Callable[..., Image.Image]:
    return lambda values, rng=None: draw(values)


def _pose(keypoints: NDArray[np.float32], rng: np.random.Generator | None = None) -> Image.Image:
    return pose_map(keypoints[keypoints[:, :, 2].any(axis=1)], (SIZE, SIZE))


CONDITIONS: dict[str, Condition] = {
    "canny": Condition(
        ("images",),
        _random_canny,
        _standard_canny,
        _standard_canny,
        "thresholds drawn: low 30 to 130, high 1.5 to 3 times that",
    ),
    "depth": Condition(
        ("depth",), _exact(depth_map), depth_map, lambda d: d.astype(np.float32), "exact depth, near bright"
    ),
    "normal": Condition(
        ("normals",),
        _exact(lambda n: normal_map(n / 127)),
        lambda n: normal_map(n / 127),
        lambda n: n.astype(np.float32) / 127,
        "exact normals: right, up, towards the viewer",
    ),
    "pose": Condition(
        ("keypoints",),
        _pose,
        _pose,
        lambda keypoints: keypoints,
        "exact key points, in Openpose's order and colours",
        lambda keypoints: (keypoints[..., 2] > 0).any(axis=(1, 2)),
    ),
    "scribble": Condition(
        ("images",),
        _random_scribble,
        _standard_scribble,
        _standard_scribble,
        "strokes thresholded, masked and thickened by chance",
    ),
    "segmentation": Condition(
        ("classes",), _exact(class_map), class_map, lambda classes: classes, "exact classes, a colour each"
    ),
}


def condition_named(name: str) -> Condition:
    if name not in CONDITIONS:
        raise MaquetteError(unknown("condition of the diorama", name, list(CONDITIONS)))
    return CONDITIONS[name]


@dataclass(frozen=True)
class Pairs:
    """A range of scenes with one condition."""

    condition: str
    seeds: range
    captions: list[str]
    images: NDArray[np.uint8]  # (N, H, W, 3)
    fields: tuple[NDArray[Any], ...]  # what the condition is drawn from, N rows each

    @staticmethod
    def load(condition: str, seeds: range, folder: Path = SCENES) -> "Pairs":
        """Render what is missing, then read it (about 50 KiB a scene, and as much for the condition)."""
        made = condition_named(condition)
        dataset.prepare(seeds, folder)
        images = dataset.load(seeds, folder, "images")
        fields = tuple(images if field == "images" else dataset.load(seeds, folder, field) for field in made.fields)
        return Pairs(condition, seeds, dataset.load_captions(seeds, folder), images, fields)

    def __len__(self) -> int:
        return len(self.captions)

    def telling(self) -> NDArray[np.intp]:
        """The rows whose condition says anything: for poses those with a person, as the paper's data were chosen.

        Raises `MaquetteError` where there is none.
        """
        tells = CONDITIONS[self.condition].tells
        if tells is None:
            return np.arange(len(self))
        rows = np.flatnonzero(tells(*self.fields))
        if not len(rows):
            raise MaquetteError(f"None of the {len(self)} scenes shows a person, whom poses need; take more scenes.")
        return rows

    def draw(self, row: int, rng: np.random.Generator) -> Image.Image:
        """A condition map for training, with the chance that the paper puts into it."""
        return CONDITIONS[self.condition].draw(*(field[row] for field in self.fields), rng)

    def standard(self, row: int) -> Image.Image:
        """The condition map without chance."""
        return CONDITIONS[self.condition].standard(*(field[row] for field in self.fields))

    def truth(self, row: int) -> Any:
        """What `metrics.fidelity` compares a picture with."""
        return CONDITIONS[self.condition].truth(*(field[row] for field in self.fields))
