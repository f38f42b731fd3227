"""Seeded randomness: one generator per image, so that a seed gives the same image in any batch."""

import torch
from torch import Tensor


def generators(seeds: list[int]) -> list[torch.Generator]:
    """One generator per image, on the CPU, so that a seed gives the same noise on every device."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def noise(sources: list[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise (B, ...) in float32 from B generators; row i depends on generator i alone."""
    return torch.cat([torch.randn((1, *shape), generator=source) for source in sources])
