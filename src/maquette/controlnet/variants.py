"""The paper's ablations of the copy: ControlNet-lite, and added channels in place of a ControlNet."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from maquette.backbones.protocol import Slot
from maquette.text.conditioning import Conditioning

CONDITION_CHANNELS = 3  # RGB


class LiteEncoder(nn.Module):
    """Each copied block replaced by a single convolution (paper, v3 §4.2): no copy, no text, no time."""

    def __init__(self, latent_channels: int, outputs: Sequence[Slot]) -> None:
        super().__init__()
        first = outputs[0]
        self.conv_in = nn.Conv2d(latent_channels, first.channels, 3, padding=1, stride=first.downscale)
        self.blocks = nn.ModuleList(
            nn.Conv2d(a.channels, b.channels, 3, padding=1, stride=b.downscale // a.downscale)
            for a, b in itertools.pairwise(outputs)
        )

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor | Conditioning,
        control_features: Tensor | None = None,
        outputs: int | None = None,
    ) -> tuple[Tensor, ...]:
        """The first `outputs` outputs, or all of them if None, (B, C, h, w) each, for latents (B, C, h, w)."""
        x = self.conv_in(latents)
        if control_features is not None:
            x = x + control_features
        features = [x]
        for block in self.blocks[: None if outputs is None else outputs - 1]:
            x = nn.functional.silu(block(nn.functional.silu(x)))
            features.append(x)
        return tuple(features)


class AddedChannels(nn.Module):
    """What further input channels add to a backbone's first convolution (v1, fig. 20; Stability's depth model).

    The first convolution of (latents, condition) is that of the latents plus this one, since both are linear. The
    condition is averaged over each latent cell. Initially zero, so that training starts as the base.
    """

    channels = ()  # of convolutions before the last

    def __init__(self, width: int, downscale: int) -> None:
        super().__init__()
        self.downscale = downscale
        self.conv_out = nn.Conv2d(CONDITION_CHANNELS, width, 3, padding=1, bias=False)

    def forward(self, condition: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, width, H / downscale, W / downscale)."""
        features: Tensor = self.conv_out(nn.functional.avg_pool2d(condition, self.downscale))
        return features
