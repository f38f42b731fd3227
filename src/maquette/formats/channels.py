"""Added channels as published: a whole U-Net whose first convolution takes the condition after the latents.

So Stability's depth model is stored, and diffusers loads it as a `UNet2DConditionModel`. Here the two parts of that
convolution are apart: what reads the latents in the copy, what reads the condition in the condition encoder.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from maquette.foundation.weights import Weights

FIRST, ADDED = "conv_in.weight", "controlnet_cond_embedding.conv_out.weight"


def widened(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A U-Net's tensors with (width, C, 3, 3) and (width, channels, 3, 3) in one convolution, latents first."""
    joined = torch.cat([tensors[FIRST], tensors[ADDED]], dim=1)
    return {**{name: value for name, value in tensors.items() if name != ADDED}, FIRST: joined}


def narrowed(weights: Weights, latent_channels: int) -> Weights:
    """The reverse, read lazily: as they are where the first convolution takes no more than the latents."""
    if FIRST not in weights or len(weights.shapes[FIRST]) != 4:
        return weights
    width, channels, *kernel = weights.shapes[FIRST]
    parts = {FIRST: slice(0, latent_channels), ADDED: slice(latent_channels, None)}
    shapes = {
        **weights.shapes,
        FIRST: (width, min(latent_channels, channels), *kernel),
        ADDED: (width, max(channels - latent_channels, 0), *kernel),
    }

    def read(name: str) -> Tensor:
        """A tensor, of any shape."""
        return weights[FIRST][:, parts[name]] if name in parts else weights[name]

    return Weights(weights.source, shapes, read, weights.metadata)
