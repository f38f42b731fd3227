"""The small network that sees the diorama: classes, colours, depth, normals and key points of an image.

One U-Net with a head each, trained on rendered scenes and shipped. It is what measures a generated image, whose
truth nobody knows, and its inner features are those in which sets of images are compared.
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
    def __init__(self) -> None:
        super().__init__()
        pairs = list(zip((3, *WIDTHS), WIDTHS, strict=False))
        self.down = nn.ModuleList(_stage(a, b, 1 if level == 0 else 2) for level, (a, b) in enumerate(pairs))
        self.up = nn.ModuleList(_stage(b + a, a, 1) for a, b in itertools.pairwise(WIDTHS))
        self.heads = nn.ModuleDict({name: nn.Conv2d(WIDTHS[0], size, 1) for name, size in HEADS.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) in [-1, 1], sides multiples of 16, to each head's map (B, channels, H, W)."""
        skips = self.encode(pixels)
        x = skips.pop()
        for stage in reversed(self.up):
            skip = skips.pop()
            x = F.interpolate(x, size=skip.shape[-2:], mode="nearest")
            x = stage(torch.cat([x, skip], dim=1))
        return {name: head(x) for name, head in self.heads.items()}

    def encode(self, pixels: Tensor) -> list[Tensor]:
        features = []
        for stage in self.down:
            pixels = stage(pixels)
            features.append(pixels)
        return features

    def embed(self, pixels: Tensor) -> Tensor:
        """(B, 128): the lowest features, averaged over the image, in which Fréchet distances are taken."""
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
    """What the network sees in B images."""

    classes: NDArray[np.uint8]  # (B, H, W)
    colours: NDArray[np.uint8]  # (B, H, W)
    depth: NDArray[np.float32]  # (B, H, W) metres
    normals: NDArray[np.float32]  # (B, H, W, 3)
    keypoints: NDArray[np.float32]  # (B, 18, H, W) heat


class PerceptionModel:
    """The shipped network, or one in a file, ready to look."""

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        path = weights or require_bundled_weights() / "perception.safetensors"
        if not path.is_file():
            raise MaquetteError(
                f"The weights of the diorama's detectors are missing: {str(path)!r}; reinstall maquette."
            )
        self.network = open_network("the diorama", {}, path, device, lambda held: Perception())
        self.device = next(self.network.parameters()).device

    @torch.no_grad()
    def predict(self, images: list[Image.Image]) -> Perceived:
        """Images of one size, sides multiples of 16."""
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
        """Features (N, 128)."""
        batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
        return np.concatenate([self.network.embed(self._pixels(batch)).cpu().numpy() for batch in batches])

    def _pixels(self, images: list[Image.Image]) -> Tensor:
        return torch.stack([to_signed(image) for image in images]).to(self.device)
