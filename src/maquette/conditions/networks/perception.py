"""The diorama's perception model: classes, colours, depth, normals and key points of an image.

One U-Net with a head for each, trained on rendered scenes and shipped with the package. It measures generated images,
which have no ground truth, and its features are used to compare sets of images.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from maquette.conditions.networks.load import open_network
from maquette.errors import MaquetteError
from maquette.foundation.bundle import require_bundled_weights
from maquette.foundation.pixels import to_signed

HEADS = {"classes": 10, "colours": 11, "disparity": 1, "normals": 3, "keypoints": 18}
"""Channels of each head; classes and colours are logits, keypoints are logits of heat maps."""

WIDTHS = (24, 40, 64, 96, 128)
NEAREST = 1.2  # m; disparities are predicted in units of 1 / NEAREST


class Perception(nn.Module):
    """A U-Net of five levels with a 1×1 convolution per head."""

    def __init__(self) -> None:
        super().__init__()
        pairs = list(zip((3, *WIDTHS), WIDTHS, strict=False))
        self.down = nn.ModuleList(_stage(a, b, 1 if level == 0 else 2) for level, (a, b) in enumerate(pairs))
        self.up = nn.ModuleList(_stage(b + a, a, 1) for a, b in itertools.pairwise(WIDTHS))
        self.heads = nn.ModuleDict({name: nn.Conv2d(WIDTHS[0], size, 1) for name, size in HEADS.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """RGB (B, 3, H, W) in [-1, 1], sides multiples of 16, to a map (B, channels, H, W) per head."""
        skips = self.encode(pixels)
        x = skips.pop()
        for stage in reversed(self.up):
            skip = skips.pop()
            x = F.interpolate(x, size=skip.shape[-2:], mode="nearest")
            x = stage(torch.cat([x, skip], dim=1))
        return {name: head(x) for name, head in self.heads.items()}

    def encode(self, pixels: Tensor) -> list[Tensor]:
        """Features (B, width, h, w) of each level for RGB (B, 3, H, W), each half the size of the one before."""
        features = []
        for stage in self.down:
            pixels = stage(pixels)
            features.append(pixels)
        return features

    def embed(self, pixels: Tensor) -> Tensor:
        """Deepest features averaged over the image, (B, 128), for Fréchet distances."""
        return self.encode(pixels)[-1].mean(dim=(2, 3))


def _stage(narrow: int, wide: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(narrow, wide, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(wide),
        nn.ReLU(),
        nn.Conv2d(wide, wide, 3, padding=1, bias=False),
        nn.BatchNorm2d(wide),
        nn.ReLU(),
    )


@dataclass(frozen=True)
class Perceived:
    """The model's output for B images."""

    classes: NDArray[np.uint8]  # (B, H, W)
    colours: NDArray[np.uint8]  # (B, H, W)
    depth: NDArray[np.float32]  # (B, H, W) metres
    normals: NDArray[np.float32]  # (B, H, W, 3) unit vectors
    keypoints: NDArray[np.float32]  # (B, 18, H, W) heat in [0, 1]


class PerceptionModel:
    """The shipped network, or one from a file, in evaluation mode.

    Raises `MaquetteError` for weights that are missing or of another network.
    """

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        path = weights or require_bundled_weights() / "perception.safetensors"
        if not path.is_file():
            raise MaquetteError(
                f"The weights of the diorama's detectors are missing: {str(path)!r}; reinstall maquette."
            )
        self.network = open_network("the diorama", {}, path, device, lambda weights: Perception())
        self.device = next(self.network.parameters()).device

    @torch.no_grad()
    def predict(self, images: list[Image.Image]) -> Perceived:
        """Perceive B RGB images of one size, sides multiples of 16."""
        maps = self.network(self._pixels(images))
        return Perceived(
            classes=maps["classes"].argmax(dim=1).to(torch.uint8).cpu().numpy(),
            colours=maps["colours"].argmax(dim=1).to(torch.uint8).cpu().numpy(),
            depth=(NEAREST / maps["disparity"][:, 0].clamp_min(NEAREST / 1000)).cpu().numpy(),
            normals=F.normalize(maps["normals"], dim=1).permute(0, 2, 3, 1).cpu().numpy(),
            keypoints=maps["keypoints"].sigmoid().cpu().numpy(),
        )

    @torch.no_grad()
    def embed(self, images: list[Image.Image], batch_size: int = 50) -> NDArray[np.float32]:
        """Features (N, 128) of N RGB images of one size, sides multiples of 16."""
        batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
        return np.concatenate([self.network.embed(self._pixels(batch)).cpu().numpy() for batch in batches])

    def _pixels(self, images: list[Image.Image]) -> Tensor:
        """RGB images as (B, 3, H, W) in [-1, 1]."""
        return torch.stack([to_signed(image) for image in images]).to(self.device)
