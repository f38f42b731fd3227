"""Depth maps: near is bright."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.drawing.surfaces import disparity_map
from maquette.conditions.inference import back, pixels_at_once, resize_batches
from maquette.conditions.options import Options, option
from maquette.conditions.spec import DetectorSpec, Predict
from maquette.conditions.weight_sources import WeightSource
from maquette.errors import MaquetteError

FILES = ("config.json", "preprocessor_config.json")

WEIGHTS = {
    "dpt-hybrid": WeightSource(
        "Intel/dpt-hybrid-midas",
        {
            **dict.fromkeys(FILES),
            "pytorch_model.bin": "b6c4d44f9d96ca3fa76dd3bbb153989a60b4ad5526559f3c598562a368d687ec",
        },
        490,
        "Apache-2.0",
        "11eaf7a1cf4bd70740697dbc216f98980c0aeb03",
    ),
    "dpt-large": WeightSource(
        "Intel/dpt-large",
        dict.fromkeys((*FILES, "pytorch_model.bin")),
        1370,
        "Apache-2.0",
        "bc15f29aa3a80d532f2ed650b5e16ac48d8958f9",
    ),
    "depth-anything-small": WeightSource(
        "depth-anything/Depth-Anything-V2-Small-hf",
        {
            "config.json": "c56698d3643dde1f83ea2212759e6b31a22b8f827246a36dd007ee8a22b3ff75",
            "preprocessor_config.json": "d41175c0d889477ca8fc67191e540faef14baf6275157b3fdecf78469e6bbf84",
            "model.safetensors": "3152477ce0d8d6978d76b995120de97cb5b928701fd0f817769f59e249a16b70",
        },
        99,
        "Apache-2.0",
        "5426e4f0f36572d16453bbda7a8389317b1bef99",
    ),
    "depth-anything-base": WeightSource(
        "depth-anything/Depth-Anything-V2-Base-hf",
        dict.fromkeys((*FILES, "model.safetensors")),
        390,
        "CC-BY-NC-4.0",
        "b1958afc87fb45a9e3746cb387596094de553ed8",
    ),
    "depth-anything-large": WeightSource(
        "depth-anything/Depth-Anything-V2-Large-hf",
        {
            **dict.fromkeys(FILES),
            "model.safetensors": "4e01e34ed5549b529b70b92d53226bc370f03041977b390d3dde45d47f516cf9",
        },
        1341,
        "CC-BY-NC-4.0",
        "7581137eff8d4e94f6e796d3baea0e9fa79b22d2",
    ),
}
"""MiDaS's hybrid first: the published ControlNets for depth and for normals were trained on its maps."""

METRIC = ("zoedepth", "glpn", "depth_pro", "prompt_depth_anything")
"""Architectures that always predict metres."""

RESOLUTION = option(
    None, "Short side of what the network sees, in pixels; without, that which it was made for.", 64, 4096
)


@dataclass(frozen=True)
class DepthOptions(Options):
    clip: float = option(0.005, "Share of the pixels that is cut off at each end, near and far; 0: none.", 0, 0.4)
    resolution: int | None = RESOLUTION
    metric: bool | None = option(
        None, "Whether the network predicts metres, near being small; without, as its configuration says."
    )


class Disparity:
    """A network that estimates depth, opened: MiDaS, Depth Anything or another one of transformers."""

    def __init__(self, detector: str, weights: str | Path | None, device: str) -> None:
        from transformers import AutoModelForDepthEstimation

        from maquette.conditions.networks.pretrained import Pretrained

        self.network: Any = Pretrained(detector, WEIGHTS, weights, device, AutoModelForDepthEstimation)
        config = self.network.config
        self.metric = config.model_type in METRIC or getattr(config, "depth_estimation_type", "") == "metric"
        self.hybrid = bool(getattr(config, "is_hybrid", False))

    def resolution(self, asked: int | None) -> int:
        """Short side of what it sees; `MaquetteError` where it can see one size alone."""
        own: int = self.network.resolution
        if self.hybrid and asked not in (None, own):
            raise MaquetteError(
                f"MiDaS's hybrid sees images at {own} pixels alone, not at {asked}; leave the resolution out, or "
                "take other weights."
            )
        return asked or own

    def of(
        self, images: Sequence[Image.Image], resolution: int | None, metric: bool | None = None
    ) -> list[NDArray[np.float32]]:
        """Near is large, of unknown scale and offset: (h, w) each, of the size that the network saw."""
        import torch

        short = self.resolution(resolution)
        in_metres = self.metric if metric is None else metric

        @torch.inference_mode()
        def look(group: list[Image.Image]) -> list[NDArray[np.float32]]:
            found = self.network.model(pixel_values=self.network.pixels(group)).predicted_depth.cpu().numpy()
            return list(1 / np.maximum(found, 1e-3) if in_metres else found)

        return resize_batches(
            images, lambda size: self.network.size_of(size, short), look, pixels_at_once(self.network.model)
        )


def _open(weights: str | Path | None, device: str) -> Predict:
    estimator = Disparity("depth", weights, device)

    def predict(images: list[Image.Image], options: DepthOptions) -> list[Image.Image]:
        found = estimator.of(images, options.resolution, options.metric)
        return [disparity_map(back(one, image.size), options.clip) for one, image in zip(found, images, strict=True)]

    return predict


DEPTH = DetectorSpec("depth", "depth, near is bright", _open, DepthOptions, library="transformers", weights=WEIGHTS)
