"""People with hands and faces: YOLOX (Ge et al. 2021) finds them, DWPose (Yang et al. 2023) their 133 key points.

Both are ONNX files, run by onnxruntime.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.drawing.people import FACE, HAND, People, from_coco
from maquette.conditions.networks.person_crop import Window
from maquette.errors import MaquetteError
from maquette.foundation.reading.files import check_regular

BOXES, POINTS = "yolox_l.onnx", "dw-ll_ucoco_384.onnx"
STRIDES = (8, 16, 32)  # pixels, of YOLOX's grids
PADDING = 114  # grey level beside an image that is not square
MAX_IOU = 0.45  # boxes that overlap more hold the same person
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, of RGB bytes


class DWPose:
    """YOLOX and DWPose, loaded.

    Args:
        folder: holds yolox_l.onnx and dw-ll_ucoco_384.onnx.
        device: as for `torch.device`, or "auto"; anything but CUDA runs on the CPU.

    Raises `MaquetteError` without onnxruntime, and for files that it cannot run.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self.boxes, self.points = (_open(folder / name, device) for name in (BOXES, POINTS))

    def __call__(self, images: Sequence[Image.Image], person: float) -> list[People]:
        """The people in each RGB image whose box scores at least `person`, in [0, 1]; the most confident first."""
        return [self._detect(np.asarray(image), person) for image in images]

    def _detect(self, pixels: NDArray[np.uint8], person: float) -> People:
        """The people in an RGB image (H, W, 3)."""
        size = _size(self.boxes)
        scale = min(size[0] / pixels.shape[1], size[1] / pixels.shape[0])
        boxes = boxes_of(_run(self.boxes, _letterboxed(pixels, size, scale))[0][0], size, person) / scale
        points = np.array([self._key_points(pixels, box) for box in boxes]).reshape(-1, 133, 3)
        return from_whole_body(points, (pixels.shape[1], pixels.shape[0]))

    def _key_points(self, pixels: NDArray[np.uint8], box: NDArray[np.float64]) -> NDArray[np.float64]:
        """Key points (133, 3) of the person in a box (4,), in pixels of the image (H, W, 3)."""
        size = _size(self.points)
        window = Window.around(box, size)
        crop = (window.cut(pixels, size, size) - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
        across, down = _run(self.points, crop.transpose(2, 0, 1))
        positions, confidence = peaks_of(across[0], down[0])
        return np.concatenate([window.to_image(positions), confidence[:, None]], axis=1)


def boxes_of(raw: NDArray[np.float32], size: tuple[int, int], person: float) -> NDArray[np.float64]:
    """Boxes of people (P, 4) as left, top, right, bottom in pixels of YOLOX's input, after non-maximum suppression.

    Args:
        raw: (cells, 85): centre relative to the cell and logarithm of the sides, in strides; objectness; scores of
            COCO's 80 classes, of which person is the first. Cells are ordered by stride, then by row.
        size: width and height of YOLOX's input.
        person: minimum score, in [0, 1].
    """
    cells = [
        (x, y, stride) for stride in STRIDES for y in range(size[1] // stride) for x in range(size[0] // stride)
    ]  # fmt: skip
    grid = np.array(cells, np.float64)
    scores = raw[:, 4] * raw[:, 5]
    of_people = scores >= person
    middle = (raw[of_people, :2] + grid[of_people, :2]) * grid[of_people, 2:]
    sides = np.exp(raw[of_people, 2:4].astype(np.float64)) * grid[of_people, 2:]
    corners = np.concatenate([middle - sides / 2, sides], axis=1)
    kept = cv2.dnn.NMSBoxes(corners.tolist(), scores[of_people].tolist(), 0.0, MAX_IOU)
    left_top = (middle - sides / 2)[np.asarray(kept, int)]
    return np.concatenate([left_top, left_top + sides[np.asarray(kept, int)]], axis=1)


def peaks_of(across: NDArray[np.float32], down: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions of K points (K, 2) as fractions of width and height, and their confidence (K,) in [0, 1].

    Args:
        across, down: scores of each position along the width (K, 2 w) and the height (K, 2 h) of an input of (w, h)
            pixels (SimCC, Li et al. 2022).
    """
    positions = np.stack([scores.argmax(axis=1) / scores.shape[1] for scores in (across, down)], axis=1)
    return positions, np.clip(np.minimum(across.max(axis=1), down.max(axis=1)), 0, 1).astype(np.float64)


def from_whole_body(points: NDArray[np.float64], size: tuple[int, int]) -> People:
    """People from COCO-WholeBody's 133 points (P, 133, 3): body, feet, face, left hand, right hand.

    Feet are dropped. Pupils are the body's eyes, as DWPose has none.
    """
    body = from_coco(points[:, :17])
    face = np.concatenate([points[:, 23:91], body[:, 14:16]], axis=1)
    return People(size, body, points[:, 91:].reshape(-1, 2, HAND, 3), face.reshape(-1, FACE, 3))


def _letterboxed(pixels: NDArray[np.uint8], size: tuple[int, int], scale: float) -> NDArray[np.float32]:
    """YOLOX's input (3, h, w) from an image (H, W, 3): BGR bytes in the top left corner of a grey canvas."""
    height, width = (max(1, int(side * scale)) for side in pixels.shape[:2])
    canvas = np.full((size[1], size[0], 3), PADDING, np.float32)
    canvas[:height, :width] = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)[..., ::-1]
    return canvas.transpose(2, 0, 1)


def _open(path: Path, device: str) -> Any:
    if not path.is_file():
        raise MaquetteError(f"Hands and faces need {BOXES} and {POINTS}; {str(path.parent)!r} holds no {path.name}.")
    try:
        import onnxruntime
    except ImportError as error:
        raise MaquetteError("Hands and faces need onnxruntime: pip install 'maquette[detectors]'.") from error

    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device.startswith("cuda") and not has_cuda:
        raise MaquetteError(f"This onnxruntime runs on the CPU only, not on {device!r}: pip install onnxruntime-gpu.")
    on_cuda = ["CUDAExecutionProvider"] if has_cuda and device.startswith(("auto", "cuda")) else []
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors
    try:
        check_regular(path)
        return onnxruntime.InferenceSession(path, settings, providers=[*on_cuda, "CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no other base class
        reason = str(error).strip().splitlines()[0]
        raise MaquetteError(f"{str(path)!r} cannot be run ({reason}); download it again.") from error


def _size(network: Any) -> tuple[int, int]:
    height, width = network.get_inputs()[0].shape[2:]
    return width, height


def _run(network: Any, pixels: NDArray[np.floating]) -> list[NDArray[np.float32]]:
    """The outputs for one input (3, h, w), each with a batch axis of 1; the files take no larger batches."""
    return network.run(None, {network.get_inputs()[0].name: pixels[None].astype(np.float32)})
