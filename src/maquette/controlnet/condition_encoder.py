"""The condition encoder, c_f = E(c_i): from a condition image to features of the backbone's latent size."""

import math

from torch import Tensor, nn


class ReleaseEncoder(nn.Module):
    """As in published checkpoints: 3×3 convolutions with SiLU that halve the size log2(downscale) times.

    For a downscale of 8: 3→16→16→32(s2)→32→96(s2)→96→256(s2)→width, the last one zero. Modules are named as in
    diffusers' `ControlNetConditioningEmbedding`.
    """

    def __init__(self, width: int, downscale: int = 8, channels: tuple[int, ...] = (16, 32, 96, 256)) -> None:
        super().__init__()
        self.channels = _levels(channels, downscale)
        self.conv_in = nn.Conv2d(3, self.channels[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for narrow, wide in zip(self.channels, self.channels[1:], strict=False):
            self.blocks.append(nn.Conv2d(narrow, narrow, 3, padding=1))
            self.blocks.append(nn.Conv2d(narrow, wide, 3, padding=1, stride=2))
        self.conv_out = nn.Conv2d(self.channels[-1], width, 3, padding=1)

    def forward(self, condition: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, width, H / downscale, W / downscale)."""
        x = nn.functional.silu(self.conv_in(condition))
        for block in self.blocks:
            x = nn.functional.silu(block(x))
        result: Tensor = self.conv_out(x)
        return result


class PaperEncoder(nn.Module):
    """As the paper describes it: 4×4 convolutions with ReLU, 16/32/64/128 channels, then the zero convolution.

    Four strides of 2 would turn 512² into 32², not the 64² that the paper states; so only as many layers as the
    downscale needs have a stride of 2, and the last one keeps the size.
    """

    def __init__(self, width: int, downscale: int = 8, channels: tuple[int, ...] = (16, 32, 64, 128)) -> None:
        super().__init__()
        self.channels = _levels(channels, downscale)
        layers: list[nn.Module] = []
        for level, (narrow, wide) in enumerate(zip((3, *self.channels), self.channels, strict=False)):
            halve = level < len(self.channels) - 1
            layers.append(nn.ZeroPad2d(1) if halve else nn.ZeroPad2d((1, 2, 1, 2)))
            layers += [nn.Conv2d(narrow, wide, 4, stride=2 if halve else 1), nn.ReLU()]
        self.blocks = nn.Sequential(*layers)
        self.conv_out = nn.Conv2d(self.channels[-1], width, 1)

    def forward(self, condition: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, width, H / downscale, W / downscale)."""
        result: Tensor = self.conv_out(self.blocks(condition))
        return result


class LatentEncoder(nn.Module):
    """For families whose condition is latents: a zero convolution on p × p patches (SD3, Flux, Qwen-Image)."""

    def __init__(self, latent_channels: int, width: int, patch: int, bias: bool = True) -> None:
        super().__init__()
        self.conv_out = nn.Conv2d(latent_channels, width, patch, stride=patch, bias=bias)

    def forward(self, condition: Tensor) -> Tensor:
        """The condition's latents (B, C, h, w) to (B, width, h / p, w / p)."""
        result: Tensor = self.conv_out(condition)
        return result


ENCODERS: dict[str, type[ReleaseEncoder] | type[PaperEncoder]] = {"release": ReleaseEncoder, "paper": PaperEncoder}


def _levels(channels: tuple[int, ...], downscale: int) -> tuple[int, ...]:
    """One width more than there are halvings; the last one repeats for deeper autoencoders."""
    halvings = round(math.log2(downscale))
    assert 2**halvings == downscale, f"a downscale is a power of 2, not {downscale}"
    return tuple(channels[min(level, len(channels) - 1)] for level in range(halvings + 1))
