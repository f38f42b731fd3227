"""Detectors for the embedded world: maps and captions by its perception model, exact maps of its scenes.

The model was trained on rendered scenes of 128 pixels and is useless on photographs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.drawing.class_maps import DIORAMA_PALETTE, RECORD, Classes, class_map
from maquette.conditions.drawing.people import People, read_people, whole_body_completeness, write_people
from maquette.conditions.drawing.pifpaf import pifpaf_map
from maquette.conditions.drawing.scene_words import describe
from maquette.conditions.drawing.skeletons import people_map, pose_map
from maquette.conditions.drawing.surfaces import depth_map, normal_map
from maquette.conditions.inference import batch_pixels, resize_batches, resized, resized_back, working_size
from maquette.conditions.spec import DetectorSpec, Load, Options, Predict, Record, option

if TYPE_CHECKING:
    from maquette.conditions.networks.perception import Perceived

MULTIPLE = 16  # of the sides of the model's input
SKY, PERSON = 0, len(DIORAMA_PALETTE) - 1  # classes
MIN_HEAT = 0.3  # heat from which a key point is found, as in the pose metric
REACH = 4  # pixels that key points may lie outside their person's area, as in the pose metric


@dataclass(frozen=True)
class SceneOptions(Options):
    resolution: int = option(128, "Short side of the network's input, in pixels; it was trained at 128.", 16, 1024)


def key_points(heat: NDArray[np.floating], classes: NDArray[np.integer]) -> NDArray[np.float64]:
    """People (P, 18, 3) as x, y in pixels and 1 where found, from heat maps that do not separate people.

    Each connected area of the class person is one person, with the hottest point of each heat map in or near it: people
    who overlap become one.

    Args:
        heat: (18, h, w) in [0, 1], one heat map per key point.
        classes: (h, w) class numbers.
    """
    count, areas = cv2.connectedComponents((classes == PERSON).astype(np.uint8), connectivity=8)
    beside = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * REACH + 1,) * 2)
    people = np.zeros((count - 1, len(heat), 3))
    for person in range(1, count):
        near = cv2.dilate((areas == person).astype(np.uint8), beside) > 0
        hottest = np.where(near, heat, 0).reshape(len(heat), -1)
        rows, columns = np.divmod(hottest.argmax(axis=1), heat.shape[2])
        people[person - 1] = np.stack([columns + 0.5, rows + 0.5, hottest.max(axis=1) >= MIN_HEAT], axis=1)
    return people[people[..., 2].any(axis=1)]


def _people(perceived: "Perceived", row: int, image: Image.Image) -> People:
    bodies = key_points(perceived.keypoints[row], perceived.classes[row])
    bodies[..., :2] *= np.divide(image.size, perceived.classes.shape[:0:-1])
    return People.of_bodies(bodies, image.size)


def _caption(perceived: "Perceived", row: int, image: Image.Image) -> str:
    classes = perceived.classes[row]
    pixels = np.asarray(resized(image, classes.shape[::-1]))
    return describe(pixels, classes, perceived.colours[row])


Render = Callable[["Perceived", int, Image.Image], Any]
"""Takes the model's output, the row in it of an image, and the image, whose size the result has."""


def _loader(render: Render) -> Load:
    """The loader of a detector that renders the model's output."""

    def load(weights: str | Path | None, device: str) -> Predict:
        from maquette.conditions.networks.perception import PerceptionModel
        from maquette.foundation.devices import find_placement

        model = PerceptionModel(device=str(find_placement(device, "float32").device))

        def predict(images: list[Image.Image], options: SceneOptions) -> list[Any]:
            def predict_batch(batch: list[Image.Image]) -> list[tuple["Perceived", int]]:
                perceived = model.predict(batch)
                return [(perceived, row) for row in range(len(batch))]

            size_of = partial(working_size, short=options.resolution, multiple=MULTIPLE)
            results = resize_batches(images, size_of, predict_batch, batch_pixels(model.network))
            return [render(perceived, row, image) for (perceived, row), image in zip(results, images, strict=True)]

        return predict

    return load


def _spec(name: str, draws: str, render: Render, **more: Any) -> DetectorSpec:
    return DetectorSpec(f"diorama/{name}", draws, _loader(render), SceneOptions, library="PyTorch", **more)


# Exact maps are rounded as in the scenes stored for training: depth to 16 bits, normals to 127 steps.
DEPTH = _spec(
    "depth",
    "depth of the embedded world, near is bright",
    lambda perceived, row, image: depth_map(resized_back(perceived.depth[row], image.size)),
    of_scene=lambda scene: depth_map(scene.depth.astype(np.float16)),
)
NORMAL = _spec(
    "normal",
    "normals of the embedded world",
    lambda perceived, row, image: normal_map(
        resized_back(perceived.normals[row] * (perceived.classes[row] != SKY)[..., None], image.size)
    ),
    of_scene=lambda scene: normal_map(np.round(scene.normals * 127) / 127),
)
SEGMENTATION = _spec(
    "segmentation",
    "classes of the embedded world",
    lambda perceived, row, image: Classes(
        resized_back(perceived.classes[row], image.size, categorical=True), "diorama"
    ),
    of_scene=lambda scene: class_map(scene.classes),
    categorical=True,
    record=RECORD,
)
POSE = _spec(
    "pose",
    "people of the embedded world",
    _people,
    record=Record(".json", people_map, write_people, read_people),
    completeness=whole_body_completeness,
    of_scene=lambda scene: pose_map(scene.keypoints[scene.keypoints[:, :, 2].any(axis=1)], scene.image.size),
)
POSE_PIFPAF = _spec(
    "pose_pifpaf",
    "people of the embedded world, as Openpifpaf draws them",
    _people,
    record=Record(".json", pifpaf_map, write_people, read_people),
    completeness=whole_body_completeness,
    of_scene=lambda scene: pifpaf_map(People.of_bodies(scene.keypoints, scene.image.size)),
)

CAPTION = _spec("caption", "a caption of the embedded world", _caption, outputs_text=True)
