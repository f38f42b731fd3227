"""M-LSD: the straight lines of rooms and buildings (Gu et al. 2022, https://arxiv.org/abs/2106.00186)."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.inference import pixels_at_once, resize_batches, working_size
from maquette.conditions.options import Options, option
from maquette.conditions.spec import DetectorSpec, Predict
from maquette.conditions.weight_sources import WeightSource

if TYPE_CHECKING:
    from torch import Tensor

LEARNED_AT = 512  # pixels, the short side of what the network sees
MULTIPLE = 64
MOST = 200  # segments of an image

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
    score: float = option(0.1, "Certainty above which a segment is drawn.", 0, 1)
    distance: float = option(
        0.1, "Length above which it is, in points of two pixels of what the network sees.", 0, 1000
    )
    resolution: int | None = option(
        None, "Short side of what the network sees, in pixels; without, the 512 that it learned at.", 64, 4096
    )


def segments(answer: "Tensor", score: float, distance: float) -> list[NDArray[np.float64]]:
    """Line segments of each image from the network's map, the most certain first, at most 200.

    Args:
        answer: (B, 5 or more, h, w); a centre's logit and, from it, x and y of one end and of the other.
        score: certainty above which a segment counts, of 1.
        distance: length above which it does, in points of the map.

    Returns: for each image (N, 4): x and y of one end and of the other, as shares of its width and height.
    """
    import torch.nn.functional as F

    height, width = answer.shape[-2:]
    heat = answer[:, :1].sigmoid()
    peaks = (heat * (F.max_pool2d(heat, 3, stride=1, padding=1) == heat)).flatten(1)
    certain, places = (found.cpu().numpy() for found in peaks.topk(min(MOST, peaks.shape[1])))
    ends = answer[:, 1:5].permute(0, 2, 3, 1).cpu().numpy()
    found = []
    for sure, place, end in zip(certain, places, ends, strict=True):
        y, x = np.divmod(place, width)
        lines = end[y, x]
        keep = (sure > score) & (np.hypot(*(lines[:, :2] - lines[:, 2:]).T) > distance)
        lines = lines + np.stack([x, y, x, y], axis=1).astype(np.float32)
        found.append(lines[keep].astype(np.float64) / [width, height, width, height])
    return found


def draw(lines: NDArray[np.float64], size: tuple[int, int]) -> Image.Image:
    """Segments as `segments` has them, white on black: one pixel wide, and wider above 768 pixels' short side."""
    canvas = np.zeros((size[1], size[0]), np.uint8)
    for x1, y1, x2, y2 in (lines * [*size, *size]).astype(np.int32).tolist():
        cv2.line(canvas, (x1, y1), (x2, y2), 255, 1)
    width = max(1, round(min(size) / LEARNED_AT))
    # OpenCV's versions disagree on how wide a line of several pixels is
    canvas = cv2.dilate(canvas, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    return Image.fromarray(canvas).convert("RGB")


def open_mlsd(weights: str | Path | None, device: str) -> Predict:
    """M-LSD, ready to look; which of its two networks follows from the weights."""
    import torch

    from maquette.conditions.networks.load import batch_of, open_network
    from maquette.conditions.networks.mlsd import Large, Tiny

    def network_of(held: Any) -> Large | Tiny:
        return Large() if "block23.conv3.weight" in held else Tiny()

    network = open_network("mlsd", WEIGHTS, weights, device, network_of)

    @torch.inference_mode()
    def look(images: list[Image.Image], options: MlsdOptions) -> list[NDArray[np.float64]]:
        seen = batch_of(images, network)
        constant = torch.full_like(seen[:, :1], 1 / 255)  # the fourth channel was a byte of 1
        return segments(network(torch.cat([seen, constant], dim=1) * 2 - 1), options.score, options.distance)

    def predict(images: list[Image.Image], options: MlsdOptions) -> list[Image.Image]:
        short = options.resolution or LEARNED_AT
        found = resize_batches(
            images,
            lambda size: working_size(size, short, MULTIPLE),
            lambda group: look(group, options),
            pixels_at_once(network),
        )
        return [draw(lines, image.size) for lines, image in zip(found, images, strict=True)]

    return predict


MLSD = DetectorSpec(
    "mlsd", "straight lines, white on black", open_mlsd, MlsdOptions, library="PyTorch", weights=WEIGHTS
)
