"""People with hands and faces: YOLOX finds them (Ge et al. 2021), DWPose their 133 key points (Yang et al. 2023).

Both are files of ONNX, which onnxruntime runs.
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

BOXES, POINTS = "yolox_l.onnx", "dw-ll_ucoco_384.onnx"
STRIDES = (8, 16, 32)  # pixels between YOLOX's places
PAPER = 114  # grey beside an image that is not square
OVERLAP = 0.45  # of two boxes' union, from which both hold the same person
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, of RGB bytes


class DWPose:
    """Both networks, ready to look.

    Args:
        folder: where the files yolox_l.onnx and dw-ll_ucoco_384.onnx lie.
        device: as `torch.device` takes it, or "auto"; what is not CUDA runs on the CPU.

    Raises `MaquetteError` without onnxruntime, and for files that it cannot run.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self.boxes, self.points = (_open(folder / name, device) for name in (BOXES, POINTS))

    def __call__(self, images: Sequence[Image.Image], person: float) -> list[People]:
        """The people in each RGB image whose box has a score of `person` or more, the surest first."""
        return [self._see(np.asarray(image), person) for image in images]

    def _see(self, pixels: NDArray[np.uint8], person: float) -> People:
        size = _size(self.boxes)
        scale = min(size[0] / pixels.shape[1], size[1] / pixels.shape[0])
        boxes = boxes_of(_run(self.boxes, _letter(pixels, size, scale))[0][0], size, person) / scale
        points = np.array([self._look(pixels, box) for box in boxes]).reshape(-1, 133, 3)
        return from_whole_body(points, (pixels.shape[1], pixels.shape[0]))

    def _look(self, pixels: NDArray[np.uint8], box: NDArray[np.float64]) -> NDArray[np.float64]:
        """Key points (133, 3) of the person in a box, in pixels of the image."""
        size = _size(self.points)
        window = Window.around(box, size)
        crop = (window.cut(pixels, size, size) - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
        across, down = _run(self.points, crop.transpose(2, 0, 1))
        shares, sure = peaks_of(across[0], down[0])
        return np.concatenate([window.placed(shares), sure[:, None]], axis=1)


def boxes_of(raw: NDArray[np.float32], size: tuple[int, int], person: float) -> NDArray[np.float64]:
    """Boxes of people (P, 4) as left, top, right, bottom in pixels of what YOLOX saw, each person once.

    Args:
        raw: (places, 85): middle and logarithm of the sides, in strides from the place; that there is a thing, and
            that it is each of COCO's 80, the first a person. Places go by stride, then by row.
        size: width and height of what it saw.
    """
    places = [
        (x, y, stride) for stride in STRIDES for y in range(size[1] // stride) for x in range(size[0] // stride)
    ]  # fmt: skip
    grid = np.array(places, np.float64)
    sure = raw[:, 4] * raw[:, 5]
    of_people = sure >= person
    middle = (raw[of_people, :2] + grid[of_people, :2]) * grid[of_people, 2:]
    sides = np.exp(raw[of_people, 2:4].astype(np.float64)) * grid[of_people, 2:]
    corners = np.concatenate([middle - sides / 2, sides], axis=1)
    kept = cv2.dnn.NMSBoxes(corners.tolist(), sure[of_people].tolist(), 0.0, OVERLAP)
    left_top = (middle - sides / 2)[np.asarray(kept, int)]
    return np.concatenate([left_top, left_top + sides[np.asarray(kept, int)]], axis=1)


def peaks_of(across: NDArray[np.float32], down: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where points are, (K, 2) as shares of the width and the height, and how sure that is, (K,) in [0, 1].

    Args:
        across, down: how much speaks for each place along the width (K, 2 w) and along the height (K, 2 h), the
            network's input being (w, h) (SimCC, Li et al. 2022).
    """
    shares = np.stack([one.argmax(axis=1) / one.shape[1] for one in (across, down)], axis=1)
    return shares, np.clip(np.minimum(across.max(axis=1), down.max(axis=1)), 0, 1).astype(np.float64)


def from_whole_body(points: NDArray[np.float64], size: tuple[int, int]) -> People:
    """COCO-WholeBody's 133 points (P, 133, 3) (body, feet, face, left hand, right hand) as Openpose has them.

    Feet are left out. Pupils are the body's eyes, for DWPose has none.
    """
    body = from_coco(points[:, :17])
    face = np.concatenate([points[:, 23:91], body[:, 14:16]], axis=1)
    return People(size, body, points[:, 91:].reshape(-1, 2, HAND, 3), face.reshape(-1, FACE, 3))


def _letter(pixels: NDArray[np.uint8], size: tuple[int, int], scale: float) -> NDArray[np.float32]:
    """An image as YOLOX takes it, (3, h, w): BGR bytes in the left upper corner of a grey canvas."""
    height, width = (max(1, int(side * scale)) for side in pixels.shape[:2])
    canvas = np.full((size[1], size[0], 3), PAPER, np.float32)
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
        return onnxruntime.InferenceSession(path, settings, providers=[*on_cuda, "CPUExecutionProvider"])
    except Exception as error:  # its own kinds, which have nothing else in common
        reason = str(error).strip().splitlines()[0]
        raise MaquetteError(f"{str(path)!r} cannot be run ({reason}); fetch it anew.") from error


def _size(network: Any) -> tuple[int, int]:
    height, width = network.get_inputs()[0].shape[2:]
    return width, height


def _run(network: Any, pixels: NDArray[np.floating]) -> list[NDArray[np.float32]]:
    """Of one input (3, h, w); a batch more than one is not what the files are for."""
    return network.run(None, {network.get_inputs()[0].name: pixels[None].astype(np.float32)})
