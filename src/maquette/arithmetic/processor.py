"""What the processor multiplies with, by which the faster way differs (docs/speed.md has the measurements)."""

from functools import cache

import torch


@cache
def has_tiles() -> bool:
    """Whether it multiplies tiles of bfloat16 (AMX, Intel since 2023): then products cost little."""
    return bool(_capabilities().get("amx_bf16"))


@cache
def is_of_amd() -> bool:
    """Whether it is one of AMD's, which alone have the instructions SSE4a."""
    return bool(_capabilities().get("sse4a"))


def _capabilities() -> dict[str, object]:
    """By name, as PyTorch's library cpuinfo tells; none by versions of PyTorch that do not."""
    return dict(getattr(torch.cpu, "get_capabilities", dict)())
