"""Two generators of line drawings. Modules are named as in the published files, so that these load strictly."""

import torch
from torch import Tensor, nn


class Drawer(nn.Module):
    """CycleGAN's generator with three residual blocks, as in Informative Drawings."""

    def __init__(self) -> None:
        super().__init__()
        self.model0 = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(3, 64, 7), *_normed(64))
        self.model1 = nn.Sequential(*_down(64, 128), *_down(128, 256))
        self.model2 = nn.Sequential(*(Residual(256) for _ in range(3)))
        self.model3 = nn.Sequential(*_up(256, 128), *_up(128, 64))
        self.model4 = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(64, 1, 7), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [0, 1], sides multiples of 4, to dark lines on white (B, 1, H, W) in [0, 1]."""
        return self.model4(self.model3(self.model2(self.model1(self.model0(x)))))


class Residual(nn.Module):
    """Two 3×3 convolutions beside a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            *_normed(channels),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w), same shape out."""
        return x + self.conv_block(x)


class Sketcher(nn.Module):
    """pix2pix's U-Net with eight downsamplings, as in Anime2Sketch."""

    def __init__(self) -> None:
        super().__init__()
        level: Level | None = None
        for outer, inner in ((512, 512),) * 4 + ((256, 512), (128, 256), (64, 128)):
            level = Level(outer, inner, level)
        assert level is not None
        self.model = Frame(level)

    def forward(self, x: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [-1, 1], sides multiples of 256, to dark lines on white (B, 1, H, W) in [-1, 1]."""
        return self.model(x)


class Frame(nn.Module):
    """The outermost level, from RGB to lines."""

    def __init__(self, below: "Level") -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(3, 64, 4, stride=2, padding=1),
            below,
            nn.ReLU(),
            nn.ConvTranspose2d(128, 1, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, 1, H, W) in [-1, 1]."""
        return self.model(x)


class Level(nn.Module):
    """Downsampling, the levels below, upsampling, concatenated to the input."""

    def __init__(self, outer: int, inner: int, below: "Level | None") -> None:
        super().__init__()
        down = [nn.LeakyReLU(0.2), nn.Conv2d(outer, inner, 4, stride=2, padding=1)]
        middle = [nn.InstanceNorm2d(inner), below] if below else []
        wide = inner * 2 if below else inner
        up = [nn.ReLU(), nn.ConvTranspose2d(wide, outer, 4, stride=2, padding=1), nn.InstanceNorm2d(outer)]
        self.model = nn.Sequential(*down, *middle, *up)

    def forward(self, x: Tensor) -> Tensor:
        """(B, outer, h, w) to (B, 2 outer, h, w)."""
        return torch.cat([x, self.model(x)], dim=1)


def _normed(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels), nn.ReLU()]


def _down(narrow: int, wide: int) -> list[nn.Module]:
    return [nn.Conv2d(narrow, wide, 3, stride=2, padding=1), *_normed(wide)]


def _up(wide: int, narrow: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(wide, narrow, 3, stride=2, padding=1, output_padding=1), *_normed(narrow)]
