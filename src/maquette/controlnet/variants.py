"""The paper's ablations of the copy: ControlNet-lite."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from maquette.backbones.protocol import Slot
from maquette.text.conditioning import Conditioning


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
