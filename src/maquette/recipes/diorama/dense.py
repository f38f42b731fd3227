"""Dense tasks: what a U-Net's features should encode of the scene; the heads that learn it are discarded.

The idea of REPA (Yu et al. 2024, arXiv:2410.06940), with exact truth in place of another network's features: classes,
colours, depth and normals of each latent cell, from the outputs of the second and the third up block.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from maquette.diorama import CLASSES, COLOUR_NAMES
from maquette.foundation.files import atomic_write
from maquette.recipes.diorama import scenes

CELL = 8  # pixels: what one latent covers
BLOCKS = (1, 2)  # up blocks whose outputs are read: 8 × 8 and 16 × 16 cells
HIDDEN = 64
SCALE = 4.0  # m: inverse depth is 1 / (1 + depth / SCALE)
CHUNK = 500  # scenes averaged at once
NAMES = ("classes", "colours", "depth", "normals")


@dataclass(frozen=True)
class Truth:
    """Means over the cells of N scenes, half precision, (N, channels, 16, 16)."""

    classes: Tensor  # share of each class
    colours: Tensor  # share of no colour and of each of the ten
    depth: Tensor  # one channel, 1 / (1 + depth / SCALE)
    normals: Tensor  # three channels, in [-1, 1]

    def __getitem__(self, rows: Tensor) -> "Truth":
        return Truth(*(getattr(self, field.name)[rows].float() for field in fields(self)))

    def on(self, device: str) -> "Truth":
        return Truth(*(getattr(self, field.name).to(device) for field in fields(self)))

    def channels(self) -> list[int]:
        return [getattr(self, field.name).shape[1] for field in fields(self)]

    def reduced(self, size: int) -> "Truth":
        """Over larger cells, size × size of them."""
        return Truth(*(F.adaptive_avg_pool2d(getattr(self, field.name), size) for field in fields(self)))


class Heads(nn.Module):
    """One small head for each block that is read."""

    def __init__(self, unet: UNet2DConditionModel, channels: list[int]) -> None:
        super().__init__()
        self.channels = channels
        widths = list(reversed(unet.config.block_out_channels))
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(widths[block], HIDDEN, 1), nn.SiLU(), nn.Conv2d(HIDDEN, sum(channels), 1))
            for block in BLOCKS
        )

    def loss(self, features: list[Tensor], truth: Truth) -> Tensor:
        """Half the cross-entropy of the shares plus squared errors of depth and normals, averaged over blocks: ().

        Args:
            features: the output of each block, (B, C, size, size).
        """
        return torch.stack(
            [
                self._block_loss(head(feature).float(), truth.reduced(feature.shape[-1]))
                for head, feature in zip(self.heads, features, strict=True)
            ]
        ).mean()

    def _block_loss(self, prediction: Tensor, truth: Truth) -> Tensor:
        """The loss, (), of one head's prediction (B, channels, size, size)."""
        classes, colours, depth, normals = prediction.split(self.channels, dim=1)
        entropy = F.cross_entropy(classes, truth.classes) + F.cross_entropy(colours, truth.colours)
        return 0.5 * entropy + F.mse_loss(depth, truth.depth) + F.mse_loss(normals, truth.normals)


def read(unet: UNet2DConditionModel) -> list[Tensor]:
    """A list that holds, after each forward pass, the outputs (B, C, size, size) of the blocks that are read."""
    features: list[Tensor] = [torch.empty(0) for _ in BLOCKS]

    def keep(place: int) -> None:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            """Store a block's output, (B, C, size, size)."""
            features[place] = output

        unet.up_blocks[BLOCKS[place]].register_forward_hook(hook)

    for place in range(len(BLOCKS)):
        keep(place)
    return features


def truth(run: Path, count: int, device: str) -> Truth:
    """The cells of the training scenes, averaged once and kept (12.5 KiB a scene)."""
    cache = run / f"cells-{count}.pt"
    if not cache.exists():
        chunks = [(first, min(CHUNK, count - first)) for first in range(0, count, CHUNK)]
        parts = [averaged(*_fields(*chunk, device)).on("cpu") for chunk in chunks]
        whole = {name: torch.cat([getattr(part, name) for part in parts]) for name in NAMES}
        with atomic_write(cache) as path:
            torch.save(whole, path)
    return Truth(**torch.load(cache, weights_only=True, map_location=device))


def _fields(first: int, count: int, device: str) -> list[Tensor]:
    """Classes, colours and depth, (N, H, W) each, and normals, (N, H, W, 3), of the scenes from `first` on."""
    return scenes.load(count, device, *NAMES, first=first)


def averaged(classes: Tensor, colours: Tensor, depth: Tensor, normals: Tensor) -> Truth:
    """The means over cells of maps (N, H, W), normals (N, H, W, 3), as `dataset.load` gives them."""
    inverse = 1 / (1 + depth.float() / SCALE)
    return Truth(
        classes=_shares(classes, len(CLASSES)),
        colours=_shares(colours, 1 + len(COLOUR_NAMES)),
        depth=F.avg_pool2d(inverse[:, None], CELL).half(),
        normals=F.avg_pool2d(normals.permute(0, 3, 1, 2).float() / 127, CELL).half(),
    )


def _shares(indices: Tensor, count: int) -> Tensor:
    """The share of each of `count` values in each cell, (N, count, h, w), of maps (N, H, W)."""
    one_hot = torch.stack([indices == value for value in range(count)], dim=1)
    return F.avg_pool2d(one_hot.float(), CELL).half()
