"""HED soft edges (Xie and Tu 2015, https://arxiv.org/abs/1504.06375), by the network learned for ControlNet."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.inference import RESOLUTION, grayscale_inference, pixels_at_once, shown
from maquette.conditions.options import Options, option
from maquette.conditions.spec import DetectorSpec, Predict
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
    safe: bool = option(False, "Black, grey and white only, so that no shading of the image hides in the map.")
    resolution: int | None = RESOLUTION


def stepped(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Levels in [0, 1] as 0, one half or 1, by thirds."""
    return (np.minimum(np.floor(levels * 3), 2) / 2).astype(np.float32)


def open_hed(weights: str | Path | None, device: str) -> Predict:
    """HED, ready to look."""
    import torch

    from maquette.conditions.networks.hed import Hed
    from maquette.conditions.networks.load import batch_of, open_network

    network = open_network("hed", WEIGHTS, weights, device, lambda held: Hed())

    @torch.inference_mode()
    def look(images: list[Image.Image]) -> NDArray[np.float32]:
        edges: NDArray[np.float32] = network(batch_of(images, network) * 255).sigmoid().cpu().numpy()
        return edges

    def predict(images: list[Image.Image], options: HedOptions) -> list[Image.Image]:
        maps = grayscale_inference(images, options.resolution, 16, look, pixels_at_once(network))
        return [shown(stepped(one) if options.safe else one) for one in maps]

    return predict


HED = DetectorSpec("hed", "soft edges, white on black", open_hed, HedOptions, library="PyTorch", weights=WEIGHTS)
