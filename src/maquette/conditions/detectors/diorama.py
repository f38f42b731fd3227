"""What the package's own small network sees of the embedded world; and, of its scenes, the exact maps.

The network was trained on rendered scenes of 128 pixels; of photographs it knows nothing.
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
from maquette.conditions.drawing.skeletons import people_map, pose_map
from maquette.conditions.drawing.surfaces import depth_map, normal_map
from maquette.conditions.inference import back, pixels_at_once, resize_batches, working_size
from maquette.conditions.options import Options, option
from maquette.conditions.spec import DetectorSpec, Load, Predict, Record

if TYPE_CHECKING:
    from maquette.conditions.networks.perception import Perceived

MULTIPLE = 16  # of which sides are that the network sees
SKY, PERSON = 0, len(DIORAMA_PALETTE) - 1  # classes
LEAST = 0.3  # heat from which a key point is one, as where poses are scored
REACH = 4  # pixels beside a person at which its key points may lie, likewise


@dataclass(frozen=True)
class SceneOptions(Options):
    resolution: int = option(128, "Short side of what the network sees, in pixels; it was trained at 128.", 16, 1024)


def key_points(heat: NDArray[np.floating], classes: NDArray[np.integer]) -> NDArray[np.float64]:
    """People (P, 18, 3) as x, y and 1 where found, in heat maps that do not say whose point is whose.

    One connected area of the class person is one person, with the hottest point of each kind in it or beside it: people
    who cover each other are drawn as one.

    Args:
        heat: (18, h, w), 1 where a key point of that kind is certain.
        classes: (h, w).
    """
    count, areas = cv2.connectedComponents((classes == PERSON).astype(np.uint8), connectivity=8)
    beside = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * REACH + 1,) * 2)
    people = np.zeros((count - 1, len(heat), 3))
    for person in range(1, count):
        near = cv2.dilate((areas == person).astype(np.uint8), beside) > 0
        hottest = np.where(near, heat, 0).reshape(len(heat), -1)
        rows, columns = np.divmod(hottest.argmax(axis=1), heat.shape[2])
        people[person - 1] = np.stack([columns + 0.5, rows + 0.5, hottest.max(axis=1) >= LEAST], axis=1)
    return people[people[..., 2].any(axis=1)]


def _people(seen: "Perceived", row: int, size: tuple[int, int]) -> People:
    bodies = key_points(seen.keypoints[row], seen.classes[row])
    bodies[..., :2] *= np.divide(size, seen.classes.shape[:0:-1])
    return People.of_bodies(bodies, size)


def _opened(answer: Callable[["Perceived", int, tuple[int, int]], Any]) -> Load:
    """A detector that answers from what the network sees in row `row` of a batch, for an image of that size."""

    def opened(weights: str | Path | None, device: str) -> Predict:
        from maquette.conditions.networks.perception import PerceptionModel
        from maquette.foundation.devices import find_placement

        eye = PerceptionModel(device=str(find_placement(device, "float32").device))

        def predict(images: list[Image.Image], options: SceneOptions) -> list[Any]:
            def look(group: list[Image.Image]) -> list[tuple["Perceived", int]]:
                seen = eye.predict(group)
                return [(seen, row) for row in range(len(group))]

            sizes = partial(working_size, short=options.resolution, multiple=MULTIPLE)
            found = resize_batches(images, sizes, look, pixels_at_once(eye.network))
            return [answer(seen, row, image.size) for (seen, row), image in zip(found, images, strict=True)]

        return predict

    return opened


def _kind(
    name: str, draws: str, answer: Callable[["Perceived", int, tuple[int, int]], Any], **more: Any
) -> DetectorSpec:
    return DetectorSpec(f"diorama/{name}", draws, _opened(answer), SceneOptions, library="PyTorch", **more)


# Exact maps are rounded as the scenes that trainings read from the disk: depth to 16 bits, normals to 127 steps.
DEPTH = _kind(
    "depth",
    "depth of the embedded world, near is bright",
    lambda seen, row, size: depth_map(back(seen.depth[row], size)),
    of_scene=lambda scene: depth_map(scene.depth.astype(np.float16)),
)
NORMAL = _kind(
    "normal",
    "normals of the embedded world",
    lambda seen, row, size: normal_map(back(seen.normals[row] * (seen.classes[row] != SKY)[..., None], size)),
    of_scene=lambda scene: normal_map(np.round(scene.normals * 127) / 127),
)
SEGMENTATION = _kind(
    "segmentation",
    "classes of the embedded world",
    lambda seen, row, size: Classes(back(seen.classes[row], size, categorical=True), "diorama"),
    of_scene=lambda scene: class_map(scene.classes),
    categorical=True,
    record=RECORD,
)
POSE = _kind(
    "pose",
    "people of the embedded world",
    _people,
    record=Record(".json", people_map, write_people, read_people),
    completeness=whole_body_completeness,
    of_scene=lambda scene: pose_map(scene.keypoints[scene.keypoints[:, :, 2].any(axis=1)], scene.image.size),
)
