"""What every transformer does alike, base or copy: running its blocks, with or without gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Copied(nn.Module):
    """A copy whose blocks are recomputed for gradients, if training sets it so."""

    gradient_checkpointing = False
    _gradient_checkpointing_func: Any


def run(of: Any, block: Callable[..., Any], *inputs: Any) -> Any:
    """Run a block of a base or copy on tokens (B, L, D) and what else it takes; recomputed for gradients if asked."""
    if of.gradient_checkpointing and torch.is_grad_enabled():
        return of._gradient_checkpointing_func(block, *inputs)
    return block(*inputs)


def if_trained(part: nn.Module) -> torch.set_grad_enabled:
    """A context without gradients where a part of a base is locked."""
    trained = any(parameter.requires_grad for parameter in part.parameters())
    return torch.set_grad_enabled(trained and torch.is_grad_enabled())


def parameters_of(*parts: nn.Module) -> list[nn.Parameter]:
    """Those of several parts, of any shape."""
    return [parameter for part in parts for parameter in part.parameters()]
