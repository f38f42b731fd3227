"""People by RT-DETR (Zhao et al. 2023), their 17 key points by ViTPose (Xu et al. 2022), both from transformers.

ViTPose's crops and the decoding of its heat maps are implemented here, as the library's need SciPy.
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
from maquette.conditions.networks.pretrained import load_errors, open_model, read_preprocessor_config
from maquette.errors import MaquetteError
from maquette.foundation.devices import find_placement

BATCH_SIZE = 16  # images or people
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of RGB in [0, 1]
BLUR, MIN_HEAT = 0.8, 1e-3  # sigma in pixels of a heat map; lower bound on the heat in a logarithm


class VitPose:
    """RT-DETR and ViTPose, loaded.

    Args:
        boxes, points: folders as `save_pretrained` writes them, of an object detector with a class "person" and of a
            ViTPose for COCO's 17 key points.
        device: as for `torch.device`, or "auto".

    Raises `MaquetteError` for folders that cannot be loaded, lack persons or have other key points.
    """

    def __init__(self, boxes: Path, points: Path, device: str) -> None:
        place = find_placement(device, "float32").device
        self.boxes = open_model("pose", boxes, AutoModelForObjectDetection).to(place)
        self.processor = _processor(boxes)
        vitpose = {"vitpose": VitPoseForPoseEstimation}
        self.points = open_model("pose", points, AutoModelForKeypointDetection, vitpose).to(place)
        persons = [number for number, name in self.boxes.config.id2label.items() if name == "person"]
        if not persons or self.points.config.num_labels != 17:
            wrong = f"{str(points)!r} has {self.points.config.num_labels} key points, not 17"
            raise MaquetteError(
                f"{wrong if persons else f'{str(boxes)!r} has no class person'}; give other weights of pose."
            )
        self.person = persons[0]
        height, width = self.points.config.backbone_config.image_size
        self.size = (width, height)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image], person: float) -> list[People]:
        """The people in each RGB image whose box scores at least `person`, in [0, 1]; the most confident first."""
        arrays = [np.asarray(image) for image in images]
        boxes = [found for batch in _batches(arrays) for found in self._find(batch, person)]
        windows = [[Window.around(box, self.size) for box in found] for found in boxes]
        crops = [
            self._crop(pixels, window)
            for pixels, in_image in zip(arrays, windows, strict=True)
            for window in in_image
        ]  # fmt: skip
        heat = iter([maps for batch in _batches(crops) for maps in self._heat_maps(batch)])
        return [
            People.of_bodies(from_coco(_key_points([next(heat) for _ in in_image], in_image)), image.size)
            for image, in_image in zip(images, windows, strict=True)
        ]

    def _find(self, arrays: list[NDArray[np.uint8]], person: float) -> list[NDArray[np.float32]]:
        """Boxes (P, 4) in each image (H, W, 3): left, top, right, bottom in its pixels."""
        inputs = self.processor(arrays, return_tensors="pt", input_data_format="channels_last")
        output = self.boxes(pixel_values=inputs["pixel_values"].to(self.boxes.device))
        sizes = [array.shape[:2] for array in arrays]
        found = self.processor.post_process_object_detection(output, threshold=person, target_sizes=sizes)
        return [objects["boxes"][objects["labels"] == self.person].float().cpu().numpy() for objects in found]

    def _crop(self, pixels: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
        """ViTPose's input (h, w, 3) from an image (H, W, 3)."""
        return window.cut(pixels, self.size, (self.size[0] - 1, self.size[1] - 1))

    def _heat_maps(self, crops: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Heat maps (N, 17, h, w) of the key points in N crops of one person each."""
        pixels = torch.from_numpy(np.stack(crops)).to(self.points.device).permute(0, 3, 1, 2) / 255
        mean, deviation = (torch.tensor(rgb, device=pixels.device).view(3, 1, 1) for rgb in (MEAN, DEVIATION))
        # ViTPose++ has one expert per data set, the first for COCO
        experts = self.points.config.backbone_config.num_experts
        dataset: Tensor | None = pixels.new_zeros(len(crops), dtype=torch.long) if experts > 1 else None
        return self.points((pixels - mean) / deviation, dataset_index=dataset).heatmaps.float().cpu().numpy()


def _batches(arrays: list[NDArray[np.uint8]]) -> Iterator[list[NDArray[np.uint8]]]:
    for start in range(0, len(arrays), BATCH_SIZE):
        yield arrays[start : start + BATCH_SIZE]


def _key_points(heat: list[NDArray[np.float32]], windows: list[Window]) -> NDArray[np.float64]:
    """Key points (P, 17, 3) in pixels of the image, from heat maps (17, h, w) of P windows."""
    points = np.zeros((len(heat), 17, 3))
    for person, (maps, window) in enumerate(zip(heat, windows, strict=True)):
        peaks, points[person, :, 2] = peaks_of(maps)
        points[person, :, :2] = window.to_image(peaks / (maps.shape[2] - 1, maps.shape[1] - 1))
    return points


def peaks_of(heat: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sub-pixel peaks of heat maps (K, h, w) as x, y (K, 2), and the heat there (K,), in [0, 1].

    One step of Newton's method from the hottest pixel on the logarithm of the blurred heat, at most one pixel long
    (Zhang et al. 2020, "Distribution-Aware Coordinate Representation for Human Pose Estimation").
    """
    peaks, confidence = np.zeros((len(heat), 2)), np.zeros(len(heat))
    for number, heat_map in enumerate(heat):
        y, x = np.unravel_index(heat_map.argmax(), heat_map.shape)
        blurred = cv2.GaussianBlur(heat_map, (11, 11), BLUR, borderType=cv2.BORDER_REFLECT)
        log = np.pad(np.log(np.clip(blurred, MIN_HEAT, None)), 1, mode="edge").astype(np.float64)
        peaks[number] = np.array((x, y)) + _step(log[y : y + 3, x : x + 3])
        confidence[number] = np.clip(heat_map[y, x], 0, 1)
    return peaks, confidence


def _step(log: NDArray[np.float64]) -> NDArray[np.float64]:
    """Offset (2,) from the middle of (3, 3) to the peak of the parabola through it."""
    middle, right, left, below, above = log[1, 1], log[1, 2], log[1, 0], log[2, 1], log[0, 1]
    slope = np.array([right - left, below - above]) / 2
    mixed = (log[2, 2] - right - below + 2 * middle - left - above + log[0, 0]) / 2
    bend = np.array([[right - 2 * middle + left, mixed], [mixed, below - 2 * middle + above]])
    step = -np.linalg.pinv(bend + np.finfo(np.float32).eps * np.eye(2)) @ slope
    return np.clip(step, -1, 1)


def _processor(folder: Path) -> Any:
    """The image processor of the object detector, which resizes its input and decodes its output."""
    read_preprocessor_config(folder)
    with load_errors(folder, "image processor"):
        return AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
