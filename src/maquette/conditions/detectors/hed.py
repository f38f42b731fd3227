"""HED soft edges (Xie and Tu 2015, https://arxiv.org/abs/1504.06375), by the network trained for ControlNet."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.inference import RESOLUTION, batch_pixels, grayscale_inference, grey_image
from maquette.conditions.spec import DetectorSpec, Options, Predict, option
from maquette.conditions.weight_sources import WeightSource

WEIGHTS = {
    "apache2": WeightSource(
        "lllyasviel/Annotators",
        {"ControlNetHED.pth": "5ca93762ffd68a29fee1af9d495bf6aab80ae86f08905fb35472a083a4c7a8fa"},
        megabytes=30,
        licence="Apache-2.0",
        revision="982e7edaec38759d914a963c48c4726685de7d96",
    )
}


@dataclass(frozen=True)
class HedOptions(Options):
    safe: bool = option(False, "Black, grey and white only, so that the map hides no shading of the image.")
    resolution: int | None = RESOLUTION


def quantized(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Levels (H, W) in [0, 1] quantized to 0, 0.5 and 1, by thirds."""
    return (np.minimum(np.floor(levels * 3), 2) / 2).astype(np.float32)


def load_hed(weights: str | Path | None, device: str) -> Predict:
    """Load HED. Raises `MaquetteError` for weights that cannot be loaded."""
    import torch

    from maquette.conditions.networks.hed import Hed
    from maquette.conditions.networks.load import batch_of, open_network

    network = open_network("hed", WEIGHTS, weights, device, lambda weights: Hed())

    @torch.inference_mode()
    def predict_batch(images: list[Image.Image]) -> NDArray[np.float32]:
        edges: NDArray[np.float32] = network(batch_of(images, network) * 255).sigmoid().cpu().numpy()
        return edges

    def predict(images: list[Image.Image], options: HedOptions) -> list[Image.Image]:
        maps = grayscale_inference(images, options.resolution, 16, predict_batch, batch_pixels(network))
        return [grey_image(quantized(levels) if options.safe else levels) for levels in maps]

    return predict


HED = DetectorSpec("hed", "soft edges, white on black", load_hed, HedOptions, library="PyTorch", weights=WEIGHTS)
