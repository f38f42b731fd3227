"""Added channels as published: a whole network whose first convolution takes the condition after the latents.

So Stability's depth model and Flux's tools are stored, and diffusers loads them as what their bases are. Here the two
parts of that convolution are apart: what reads the latents in the copy, what reads the condition in its encoder.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from maquette.foundation.weights import Weights


def widened(tensors: Mapping[str, Tensor], first: str, added: str) -> dict[str, Tensor]:
    """A network's tensors with (width, C, k, k) and (width, channels, k, k) in one convolution, latents first.

    Args:
        first, added: names of the weights of the first convolution, and of what reads the condition.
    """
    joined = torch.cat([tensors[first], tensors[added]], dim=1)
    return {**{name: value for name, value in tensors.items() if name != added}, first: joined}


def narrowed(weights: Weights, first: str, added: str, latent_channels: int) -> Weights:
    """The reverse, read lazily: as they are where the first convolution takes no more than the latents."""
    if first not in weights or len(weights.shapes[first]) != 4:
        return weights
    width, channels, *kernel = weights.shapes[first]
    parts = {first: slice(0, latent_channels), added: slice(latent_channels, None)}
    shapes = {
        **weights.shapes,
        first: (width, min(latent_channels, channels), *kernel),
        added: (width, max(channels - latent_channels, 0), *kernel),
    }

    def read(name: str) -> Tensor:
        """A tensor, of any shape."""
        return weights[first][:, parts[name]] if name in parts else weights[name]

    return Weights(weights.source, shapes, read, weights.metadata)
