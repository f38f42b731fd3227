"""M-LSD: straight lines of rooms and buildings (Gu et al. 2022, https://arxiv.org/abs/2106.00186)."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.inference import batch_pixels, resize_batches, working_size
from maquette.conditions.spec import DetectorSpec, Options, Predict, option
from maquette.conditions.weight_sources import WeightSource

if TYPE_CHECKING:
    from torch import Tensor

TRAINED_AT = 512  # pixels, the input's short side
MULTIPLE = 64
MAX_SEGMENTS = 200  # per image

WEIGHTS = {
    "large": WeightSource(
        "lllyasviel/Annotators",
        {"mlsd_large_512_fp32.pth": "5696f168eb2c30d4374bbfd45436f7415bb4d88da29bea97eea0101520fba082"},
        megabytes=7,
        licence="Apache-2.0",
        revision="982e7edaec38759d914a963c48c4726685de7d96",
    ),
    "tiny": WeightSource(
        "lllyasviel/ControlNet",
        {"annotator/ckpts/mlsd_tiny_512_fp32.pth": None},
        megabytes=3,
        licence="Apache-2.0",
        revision="e78a8c4a5052a238198043ee5c0cb44e22abb9f7",
    ),
}


@dataclass(frozen=True)
class MlsdOptions(Options):
    score: float = option(0.1, "Confidence above which a segment is drawn.", 0, 1)
    distance: float = option(0.1, "Length above which a segment is drawn, in units of two input pixels.", 0, 1000)
    resolution: int | None = option(
        None, "Short side of the network's input, in pixels; by default 512, as it was trained.", 64, 4096
    )


def segments(output: "Tensor", score: float, distance: float) -> list[NDArray[np.float64]]:
    """Line segments of each image from the network's output, most confident first, at most 200.

    Args:
        output: (B, 5 or more, h, w): logit of a segment's centre, then x and y of both ends relative to it.
        score: confidence in [0, 1] above which a segment counts.
        distance: length above which a segment counts, in pixels of the output.

    Returns: (N, 4) per image: x and y of both ends, as fractions of its width and height.
    """
    import torch.nn.functional as F

    height, width = output.shape[-2:]
    heat = output[:, :1].sigmoid()
    peaks = (heat * (F.max_pool2d(heat, 3, stride=1, padding=1) == heat)).flatten(1)
    scores, places = (values.cpu().numpy() for values in peaks.topk(min(MAX_SEGMENTS, peaks.shape[1])))
    ends = output[:, 1:5].permute(0, 2, 3, 1).cpu().numpy()
    found = []
    for confidence, place, end in zip(scores, places, ends, strict=True):
        y, x = np.divmod(place, width)
        lines = end[y, x]
        keep = (confidence > score) & (np.hypot(*(lines[:, :2] - lines[:, 2:]).T) > distance)
        lines = lines + np.stack([x, y, x, y], axis=1).astype(np.float32)
        found.append(lines[keep].astype(np.float64) / [width, height, width, height])
    return found


def draw(lines: NDArray[np.float64], size: tuple[int, int]) -> Image.Image:
    """Segments (N, 4) as from `segments`, white on black; one pixel wide up to a short side of 768, then wider."""
    canvas = np.zeros((size[1], size[0]), np.uint8)
    for x1, y1, x2, y2 in (lines * [*size, *size]).astype(np.int32).tolist():
        cv2.line(canvas, (x1, y1), (x2, y2), 255, 1)
    width = max(1, round(min(size) / TRAINED_AT))
    # versions of OpenCV draw thick lines of different widths
    canvas = cv2.dilate(canvas, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    return Image.fromarray(canvas).convert("RGB")


def load_mlsd(weights: str | Path | None, device: str) -> Predict:
    """Load M-LSD, large or tiny as the weights are. Raises `MaquetteError` for weights that cannot be loaded."""
    import torch

    from maquette.conditions.networks.load import batch_of, open_network
    from maquette.conditions.networks.mlsd import Large, Tiny

    def build(tensors: Any) -> Large | Tiny:
        return Large() if "block23.conv3.weight" in tensors else Tiny()

    network = open_network("mlsd", WEIGHTS, weights, device, build)

    @torch.inference_mode()
    def predict_batch(images: list[Image.Image], options: MlsdOptions) -> list[NDArray[np.float64]]:
        pixels = batch_of(images, network)
        constant = torch.full_like(pixels[:, :1], 1 / 255)  # in training the fourth channel was a byte of 1
        return segments(network(torch.cat([pixels, constant], dim=1) * 2 - 1), options.score, options.distance)

    def predict(images: list[Image.Image], options: MlsdOptions) -> list[Image.Image]:
        short = options.resolution or TRAINED_AT
        found = resize_batches(
            images,
            lambda size: working_size(size, short, MULTIPLE),
            lambda batch: predict_batch(batch, options),
            batch_pixels(network),
        )
        return [draw(lines, image.size) for lines, image in zip(found, images, strict=True)]

    return predict


MLSD = DetectorSpec(
    "mlsd", "straight lines, white on black", load_mlsd, MlsdOptions, library="PyTorch", weights=WEIGHTS, lines=True
)
