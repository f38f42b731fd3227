"""The networks of M-LSD (Gu et al. 2022, https://arxiv.org/abs/2106.00186) as published in `mlsd_pytorch`.

MobileNet V2 without its last stages, and a decoder that upsamples again. Modules are named as in the published
files, so that these load strictly.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
"""Stages of MobileNet V2: expansion, channels, blocks, stride of the first block."""

FIRST_USED = 7  # of the last layer's 16 channels; the ones before serve auxiliary losses only


class Large(nn.Module):
    """1.5 million parameters; sides multiples of 16."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone(stages=5, taken=(1, 3, 6, 10, 13))
        self.block15 = Join(64, 96, 64, 64)
        self.block16 = Refine(128, 64)
        self.block17 = Join(32, 64, 64, 64)
        self.block18 = Refine(128, 64)
        self.block19 = Join(24, 64, 64, 64)
        self.block20 = Refine(128, 64)
        self.block21 = Join(16, 64, 64, 64)
        self.block22 = Refine(128, 64)
        self.block23 = Head(64, 16)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4, H, W), RGB in [-1, 1] and a constant, to (B, 9, H/2, W/2): centre logit, ends, unused.

        Channels 1 to 4 are x and y of both ends relative to the centre, in pixels of the output.
        """
        half, quarter, eighth, fine, coarse = self.backbone(x)
        x = self.block16(self.block15(fine, coarse))
        x = self.block18(self.block17(eighth, x))
        x = self.block20(self.block19(quarter, x))
        x = self.block22(self.block21(half, x))
        return self.block23(x)[:, FIRST_USED:]


class Tiny(nn.Module):
    """0.6 million parameters; sides multiples of 16."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone(stages=4, taken=(3, 6, 10))
        self.block12 = Join(32, 64, 64, 64)
        self.block13 = Refine(128, 64)
        self.block14 = Join(24, 64, 32, 32)
        self.block15 = Refine(64, 64)
        self.block16 = Head(64, 16)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4, H, W) to (B, 9, H/2, W/2), as `Large.forward`."""
        quarter, eighth, sixteenth = self.backbone(x)
        x = self.block13(self.block12(eighth, sixteenth))
        x = self.block15(self.block14(quarter, x))
        x = self.block16(x)[:, FIRST_USED:]
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


class Backbone(nn.Module):
    """The first stages of MobileNet V2 (Sandler et al. 2018), with four input channels.

    Args:
        stages: how many of `STAGES`.
        taken: numbers of the blocks whose features are returned.
    """

    def __init__(self, stages: int, taken: tuple[int, ...]) -> None:
        super().__init__()
        self.taken = taken
        blocks: list[nn.Module] = [Unit(4, 32, 3, stride=2)]
        channels = 32
        for expansion, wide, count, stride in STAGES[:stages]:
            for number in range(count):
                blocks.append(Bottleneck(channels, wide, stride if number == 0 else 1, expansion))
                channels = wide
        self.features = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 4, H, W) to the features (B, channels, h, w) of the blocks in `taken`, from fine to coarse."""
        features = []
        for number, block in enumerate(self.features):
            x = block(x)
            if number in self.taken:
                features.append(x)
        return features


class Unit(nn.Sequential):
    """Convolution, batch norm, ReLU6. With stride 2 the padding is TensorFlow's: right and bottom only."""

    def __init__(self, narrow: int, wide: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        padding = 0 if stride == 2 else kernel // 2
        super().__init__(
            nn.Conv2d(narrow, wide, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
        )
        self.pad = (0, 1, 0, 1) if stride == 2 else (0, 0, 0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, narrow, H, W) to (B, wide, H / stride, W / stride)."""
        x = F.pad(x, self.pad)
        for module in self:
            x = module(x)
        return x


class Bottleneck(nn.Module):
    """MobileNet V2's inverted residual."""

    def __init__(self, narrow: int, wide: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = narrow * expansion
        self.adds = stride == 1 and narrow == wide
        self.conv = nn.Sequential(
            *([Unit(narrow, inner, 1)] if expansion > 1 else []),
            Unit(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, narrow, H, W) to (B, wide, H / stride, W / stride)."""
        return x + self.conv(x) if self.adds else self.conv(x)


class Join(nn.Module):
    """Concatenate fine features and coarse ones, upsampled to their size."""

    def __init__(self, fine: int, coarse: int, wide_fine: int, wide_coarse: int) -> None:
        super().__init__()
        self.conv1 = _conv(coarse, wide_coarse, 1)
        self.conv2 = _conv(fine, wide_fine, 1)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """(B, fine, H, W) and (B, coarse, h, w) to (B, wide_fine + wide_coarse, H, W)."""
        fine, coarse = self.conv2(fine), self.conv1(coarse)
        if coarse.shape != fine.shape:
            coarse = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=True)
        return torch.cat([fine, coarse], dim=1)


class Refine(nn.Module):
    """A residual 3×3 convolution and another one."""

    def __init__(self, narrow: int, wide: int) -> None:
        super().__init__()
        self.conv1 = _conv(narrow, narrow, 3)
        self.conv2 = _conv(narrow, wide, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, narrow, h, w) to (B, wide, h, w)."""
        return self.conv2(self.conv1(x) + x)


class Head(nn.Module):
    """The last three convolutions, the first dilated."""

    def __init__(self, narrow: int, wide: int) -> None:
        super().__init__()
        self.conv1 = _conv(narrow, narrow, 3, dilation=5)
        self.conv2 = _conv(narrow, narrow, 3)
        self.conv3 = nn.Conv2d(narrow, wide, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, narrow, h, w) to (B, wide, h, w)."""
        return self.conv3(self.conv2(self.conv1(x)))


def _conv(narrow: int, wide: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(narrow, wide, kernel, padding=kernel // 2 * dilation, dilation=dilation),
        nn.BatchNorm2d(wide),
        nn.ReLU(),
    )
