"""People by RT-DETR (Zhao et al. 2023), their 17 key points by ViTPose (Xu et al. 2022), both as transformers has them.

What ViTPose is given and how its heat maps are read is written out here: the library's own needs SciPy.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModelForKeypointDetection,
    AutoModelForObjectDetection,
    VitPoseForPoseEstimation,
)

from maquette.conditions.drawing.people import People, from_coco
from maquette.conditions.networks.person_crop import Window
from maquette.conditions.networks.pretrained import open_model, read_wishes, sound
from maquette.errors import MaquetteError
from maquette.foundation.devices import find_placement

AT_ONCE = 16  # images or people in a batch
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of RGB in [0, 1]
BLUR, FAINTEST = 0.8, 1e-3  # pixels of a heat map; the least heat of which a logarithm is taken


class VitPose:
    """Both networks, ready to look.

    Args:
        boxes, points: folders as `save_pretrained` writes them, of a detector of objects that knows persons, and of a
            ViTPose of COCO's 17 key points.
    """

    def __init__(self, boxes: Path, points: Path, device: str) -> None:
        place = find_placement(device, "float32").device
        self.boxes = open_model("pose", boxes, AutoModelForObjectDetection).to(place)
        self.processor = _processor(boxes)
        vitpose = {"vitpose": VitPoseForPoseEstimation}
        self.points = open_model("pose", points, AutoModelForKeypointDetection, vitpose).to(place)
        persons = [number for number, name in self.boxes.config.id2label.items() if name == "person"]
        if not persons or self.points.config.num_labels != 17:
            wrong = f"{str(points)!r} knows {self.points.config.num_labels} key points, not 17"
            raise MaquetteError(
                f"{wrong if persons else f'{str(boxes)!r} knows no persons'}; give other weights of pose."
            )
        self.person = persons[0]
        height, width = self.points.config.backbone_config.image_size
        self.size = (width, height)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image], person: float) -> list[People]:
        """The people in each RGB image whose box has a score of `person` or more, the surest first."""
        arrays = [np.asarray(image) for image in images]
        boxes = [box for chunk in _chunks(arrays) for box in self._find(chunk, person)]
        windows = [[Window.around(box, self.size) for box in of_one] for of_one in boxes]
        crops = [
            self._crop(pixels, window)
            for pixels, of_one in zip(arrays, windows, strict=True)
            for window in of_one
        ]  # fmt: skip
        heat = iter([one for chunk in _chunks(crops) for one in self._look(chunk)])
        return [
            People.of_bodies(from_coco(_placed([next(heat) for _ in of_one], of_one)), image.size)
            for image, of_one in zip(images, windows, strict=True)
        ]

    def _find(self, arrays: list[NDArray[np.uint8]], person: float) -> list[NDArray[np.float32]]:
        """Boxes (P, 4) in each image: left, top, right, bottom in its pixels."""
        given = self.processor(arrays, return_tensors="pt", input_data_format="channels_last")
        seen = self.boxes(pixel_values=given["pixel_values"].to(self.boxes.device))
        sizes = [array.shape[:2] for array in arrays]
        found = self.processor.post_process_object_detection(seen, threshold=person, target_sizes=sizes)
        return [one["boxes"][one["labels"] == self.person].float().cpu().numpy() for one in found]

    def _crop(self, pixels: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
        return window.cut(pixels, self.size, (self.size[0] - 1, self.size[1] - 1))

    def _look(self, crops: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Heat maps (N, 17, h, w) of the key points of one person a crop."""
        pixels = torch.from_numpy(np.stack(crops)).to(self.points.device).permute(0, 3, 1, 2) / 255
        mean, deviation = (torch.tensor(one, device=pixels.device).view(3, 1, 1) for one in (MEAN, DEVIATION))
        # ViTPose++ has an expert a data set, the first for COCO
        experts = self.points.config.backbone_config.num_experts
        chosen: Tensor | None = pixels.new_zeros(len(crops), dtype=torch.long) if experts > 1 else None
        return self.points((pixels - mean) / deviation, dataset_index=chosen).heatmaps.float().cpu().numpy()


def _chunks(arrays: list[NDArray[np.uint8]]) -> Iterator[list[NDArray[np.uint8]]]:
    for start in range(0, len(arrays), AT_ONCE):
        yield arrays[start : start + AT_ONCE]


def _placed(heat: list[NDArray[np.float32]], windows: list[Window]) -> NDArray[np.float64]:
    """Key points (P, 17, 3) in pixels of the image."""
    points = np.zeros((len(heat), 17, 3))
    for one, (maps, window) in enumerate(zip(heat, windows, strict=True)):
        peaks, points[one, :, 2] = peaks_of(maps)
        points[one, :, :2] = window.placed(peaks / (maps.shape[2] - 1, maps.shape[1] - 1))
    return points


def peaks_of(heat: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where heat maps (K, h, w) are hottest, (K, 2) as x, y between their pixels, and how hot there, (K,) in [0, 1].

    From the hottest pixel a step of Newton's method on the logarithm of the blurred heat (Zhang et al. 2020,
    "Distribution-Aware Coordinate Representation for Human Pose Estimation"), of a pixel at most.
    """
    places, sure = np.zeros((len(heat), 2)), np.zeros(len(heat))
    for number, one in enumerate(heat):
        y, x = np.unravel_index(one.argmax(), one.shape)
        blurred = cv2.GaussianBlur(one, (11, 11), BLUR, borderType=cv2.BORDER_REFLECT)
        log = np.pad(np.log(np.clip(blurred, FAINTEST, None)), 1, mode="edge").astype(np.float64)
        places[number] = np.array((x, y)) + _step(log[y : y + 3, x : x + 3])
        sure[number] = np.clip(one[y, x], 0, 1)
    return places, sure


def _step(log: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the middle of (3, 3) to the peak of the parabola through it."""
    middle, right, left, below, above = log[1, 1], log[1, 2], log[1, 0], log[2, 1], log[0, 1]
    slope = np.array([right - left, below - above]) / 2
    mixed = (log[2, 2] - right - below + 2 * middle - left - above + log[0, 0]) / 2
    bend = np.array([[right - 2 * middle + left, mixed], [mixed, below - 2 * middle + above]])
    step = -np.linalg.pinv(bend + np.finfo(np.float32).eps * np.eye(2)) @ slope
    return np.clip(step, -1, 1)


def _processor(folder: Path) -> Any:
    """What scales images for the detector of boxes and reads its answers."""
    read_wishes(folder)
    with sound(folder, "image processor"):
        return AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
