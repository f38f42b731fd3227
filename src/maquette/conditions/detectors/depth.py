"""Depth maps: near is bright."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.drawing.surfaces import disparity_map
from maquette.conditions.inference import batch_pixels, resize_batches, resized_back
from maquette.conditions.spec import DetectorSpec, Options, Predict, option
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
"""MiDaS hybrid is the default: the published ControlNets for depth and normals were trained on its maps."""

METRIC = ("zoedepth", "glpn", "depth_pro", "prompt_depth_anything")
"""Architectures that always predict metric depth."""

RESOLUTION = option(
    None, "Short side of the network's input, in pixels; by default the size it was trained at.", 64, 4096
)


@dataclass(frozen=True)
class DepthOptions(Options):
    clip: float = option(0.005, "Fraction of pixels to clip at each end, near and far; 0 for none.", 0, 0.4)
    resolution: int | None = RESOLUTION
    metric: bool | None = option(
        None, "Whether the network predicts metres (near is small); by default as its config says."
    )


class Disparity:
    """A loaded depth network: MiDaS, Depth Anything or another one from transformers.

    Raises `MaquetteError` for weights that cannot be loaded.
    """

    def __init__(self, detector: str, weights: str | Path | None, device: str) -> None:
        from transformers import AutoModelForDepthEstimation

        from maquette.conditions.networks.pretrained import Pretrained

        self.network: Any = Pretrained(detector, WEIGHTS, weights, device, AutoModelForDepthEstimation)
        config = self.network.config
        self.metric = config.model_type in METRIC or getattr(config, "depth_estimation_type", "") == "metric"
        self.hybrid = bool(getattr(config, "is_hybrid", False))

    def resolution(self, requested: int | None) -> int:
        """Short side of its input in pixels. Raises `MaquetteError` for a size that a fixed-size network can't take."""
        native: int = self.network.resolution
        if self.hybrid and requested not in (None, native):
            raise MaquetteError(
                f"MiDaS hybrid only runs at {native} pixels, not at {requested}; leave the resolution out, or use "
                "other weights."
            )
        return requested or native

    def predict(
        self, images: Sequence[Image.Image], resolution: int | None, metric: bool | None = None
    ) -> list[NDArray[np.float32]]:
        """Disparity (h, w) of each image at the network's working size: near is large, scale and offset unknown.

        Raises `MaquetteError` as `resolution` does.
        """
        import torch

        short = self.resolution(resolution)
        in_metres = self.metric if metric is None else metric

        @torch.inference_mode()
        def predict_batch(batch: list[Image.Image]) -> list[NDArray[np.float32]]:
            depth = self.network.model(pixel_values=self.network.pixels(batch)).predicted_depth.cpu().numpy()
            return list(1 / np.maximum(depth, 1e-3) if in_metres else depth)

        return resize_batches(
            images, lambda size: self.network.size_of(size, short), predict_batch, batch_pixels(self.network.model)
        )


def _load(weights: str | Path | None, device: str) -> Predict:
    estimator = Disparity("depth", weights, device)

    def predict(images: list[Image.Image], options: DepthOptions) -> list[Image.Image]:
        disparities = estimator.predict(images, options.resolution, options.metric)
        return [
            disparity_map(resized_back(disparity, image.size), options.clip)
            for disparity, image in zip(disparities, images, strict=True)
        ]

    return predict


DEPTH = DetectorSpec("depth", "depth, near is bright", _load, DepthOptions, library="transformers", weights=WEIGHTS)
