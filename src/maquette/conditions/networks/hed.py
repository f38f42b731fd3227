"""The HED network published for ControlNet as `ControlNetHED_Apache2`.

Modules are named as in the published file, so that it loads strictly.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Hed(nn.Module):
    """VGG-16's convolutions; each of the five stages predicts edges at one scale."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.zeros(1, 3, 1, 1))  # the learned mean colour
        self.block1 = Stage(3, 64, 2)
        self.block2 = Stage(64, 128, 2)
        self.block3 = Stage(128, 256, 3)
        self.block4 = Stage(256, 512, 3)
        self.block5 = Stage(512, 512, 3)

    def forward(self, x: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [0, 255], sides multiples of 16, to edge logits (B, H, W), the mean of the stages."""
        size = x.shape[-2:]
        sides = [F.interpolate(side, size, mode="bilinear") for side in self.sides(x)]
        return torch.cat(sides, dim=1).mean(dim=1)

    def sides(self, x: Tensor) -> list[Tensor]:
        """Edge logits of each stage, (B, 1, h, w), each half the size of the one before."""
        x = x - self.norm
        logits: list[Tensor] = []
        for stage in (self.block1, self.block2, self.block3, self.block4, self.block5):
            if logits:
                x = F.max_pool2d(x, 2)
            x = stage(x)
            logits.append(stage.projection(x))
        return logits


class Stage(nn.Module):
    """3×3 convolutions with ReLU, and a projection to one channel that `sides` applies."""

    def __init__(self, narrow: int, wide: int, count: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(narrow if number == 0 else wide, wide, 3, padding=1) for number in range(count)
        )
        self.projection = nn.Conv2d(wide, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, narrow, h, w) to (B, wide, h, w)."""
        for conv in self.convs:
            x = F.relu(conv(x))
        return x
