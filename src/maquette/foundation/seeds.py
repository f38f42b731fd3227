"""Randomness that is passed in: one generator a picture, so that a seed means one picture in any batch."""

import torch
from torch import Tensor


def generators(seeds: list[int]) -> list[torch.Generator]:
    """One CPU generator a picture; CPU so that a seed means the same on every device."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def noise(sources: list[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Standard normal (len(sources), *shape) in float32; row i depends on source i alone."""
    return torch.cat([torch.randn((1, *shape), generator=source) for source in sources])
