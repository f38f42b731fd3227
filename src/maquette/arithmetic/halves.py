"""Batches whose halves are equal, as guidance's are until the text comes in: computed once."""

from collections.abc import Callable

import torch
from torch import Tensor


def twice(*values: Tensor | None) -> bool:
    """Whether each value of any shape, 2 B rows on a CPU, holds the same ones twice; on a GPU asking means waiting."""
    return all(value is None or _repeats(value) for value in values)


def _repeats(value: Tensor) -> bool:
    """Whether the two halves of a value of any shape are equal; if not, one of the first numbers tells."""
    if value.device.type != "cpu" or len(value) % 2:
        return False
    first, second = value.chunk(2)
    return torch.equal(first, second)


def once(plain: Callable[..., Tensor], x: Tensor, temb: Tensor | None = None) -> Tensor:
    """plain(x, temb) for x (B, ...) and a time (B, T), by diffusers' name; each row must be computed by itself."""
    if not twice(x, temb):
        return plain(x, temb)
    half = len(x) // 2
    return torch.cat([plain(x[:half], None if temb is None else temb[:half])] * 2)
