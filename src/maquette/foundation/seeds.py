"""Randomness that is passed in: one generator an image, so that a seed means one image in any batch."""

import torch
from torch import Tensor


def generators(seeds: list[int]) -> list[torch.Generator]:
    """One CPU generator an image; CPU so that a seed means the same on every device."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def noise(sources: list[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Standard normal (len(sources), *shape) in float32; row i depends on source i alone."""
    return torch.cat([torch.randn((1, *shape), generator=source) for source in sources])
