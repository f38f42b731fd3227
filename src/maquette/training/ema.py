"""Exponential moving average (EMA) of weights."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of a network that tracks the EMA of its weights at each `update_parameters`."""
    return AveragedModel(network, multi_avg_fn=partial(running_average, decay))


@torch.no_grad()
def running_average(decay: float, average: Tensors, current: Tensors, count: Tensor | int) -> None:
    """Update an EMA in place; `decay` is warmed up over the first updates.

    Args:
        average, current: tensors of the same shapes.
        count: updates so far.
    """
    warmed = min(decay, (1 + int(count)) / (10 + int(count)))
    for mean, value in zip(average, current, strict=True):
        mean.lerp_(value.to(mean.dtype), 1 - warmed)
