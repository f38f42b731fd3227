"""Line drawings of any image (Chan et al. 2022, https://arxiv.org/abs/2203.12691), and in the style of anime.

The networks draw dark lines on white. Maps are inverted, as the published ControlNets were trained on inverted ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.inference import RESOLUTION, batch_pixels, grayscale_inference, grey_image
from maquette.conditions.spec import DetectorSpec, Options, Predict
from maquette.conditions.weight_sources import WeightSource

if TYPE_CHECKING:
    from torch import Tensor, nn

REVISION = "982e7edaec38759d914a963c48c4726685de7d96"

WEIGHTS = {
    "fine": WeightSource(
        "lllyasviel/Annotators",
        {"sk_model.pth": "c686ced2a666b4850b4bb6ccf0748031c3eda9f822de73a34b8979970d90f0c6"},
        megabytes=18,
        licence="MIT",
        revision=REVISION,
    ),
    "coarse": WeightSource(
        "lllyasviel/Annotators",
        {"sk_model2.pth": "30a534781061f34e83bb9406b4335da4ff2616c95d22a585c1245aa8363e74e0"},
        megabytes=18,
        licence="MIT",
        revision=REVISION,
    ),
}

ANIME_WEIGHTS = {
    "anime2sketch": WeightSource(
        "lllyasviel/Annotators",
        {"netG.pth": "ccabdcc3f5cf3c07cf65d58776acb21df7dfda825cdc70c9766a93fd62bfc488"},
        megabytes=218,
        licence="MIT",
        revision=REVISION,
    )
}


@dataclass(frozen=True)
class LineartOptions(Options):
    resolution: int | None = RESOLUTION


def load_lineart(weights: str | Path | None, device: str) -> Predict:
    """Load the generator of informative drawings. Raises `MaquetteError` for weights that cannot be loaded."""
    from maquette.conditions.networks.lineart import Drawer
    from maquette.conditions.networks.load import open_network

    network = open_network("lineart", WEIGHTS, weights, device, lambda weights: Drawer())
    return _inverted(network, network, multiple=4)


def load_lineart_anime(weights: str | Path | None, device: str) -> Predict:
    """Load the generator of Anime2Sketch (Xiang et al. 2021). Raises `MaquetteError` as `load_lineart` does."""
    from maquette.conditions.networks.lineart import Sketcher
    from maquette.conditions.networks.load import open_network

    network = open_network("lineart_anime", ANIME_WEIGHTS, weights, device, lambda weights: Sketcher())
    return _inverted(network, lambda unit: network(unit * 2 - 1) / 2 + 0.5, multiple=256)


def _inverted(network: "nn.Module", draw: Callable[["Tensor"], "Tensor"], multiple: int) -> Predict:
    """Inverted maps from a network that draws (B, 3, h, w) as (B, 1, h, w), both in [0, 1]."""
    import torch

    from maquette.conditions.networks.load import batch_of

    @torch.inference_mode()
    def predict_batch(images: list[Image.Image]) -> NDArray[np.float32]:
        lines: NDArray[np.float32] = (1 - draw(batch_of(images, network))[:, 0]).cpu().numpy()
        return lines

    def predict(images: list[Image.Image], options: LineartOptions) -> list[Image.Image]:
        maps = grayscale_inference(images, options.resolution, multiple, predict_batch, batch_pixels(network))
        return [grey_image(levels) for levels in maps]

    return predict


LINEART = DetectorSpec(
    "lineart", "a line drawing, white on black", load_lineart, LineartOptions, library="PyTorch", weights=WEIGHTS
)
LINEART_ANIME = DetectorSpec(
    "lineart_anime",
    "a line drawing as of anime, white on black",
    load_lineart_anime,
    LineartOptions,
    library="PyTorch",
    weights=ANIME_WEIGHTS,
)
