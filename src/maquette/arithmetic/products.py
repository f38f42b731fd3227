"""Products of matrices in float32 on AMD's processors, by oneDNN: PyTorch's own library uses half of their width."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from maquette.arithmetic.processor import is_of_amd

ENOUGH = 2**21  # multiplications, from which on asking oneDNN costs less than it saves


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b, for x (..., K), weights (N, K) and a bias (N,) to (..., N); without gradients."""
    if not by_onednn(x, x.numel() * len(weight)):
        return F.linear(x, weight, bias)
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


def products(left: Tensor, right: Tensor) -> Tensor:
    """L Rᵀ of each pair of (B, N, K) and (B, M, K) to (B, N, M); without gradients."""
    if not by_onednn(left, left[0].numel() * right.shape[1]):
        return torch.bmm(left, right.mT)
    return torch.stack([linear(one, other) for one, other in zip(left, right, strict=True)])


def by_onednn(x: Tensor, multiplications: int) -> bool:
    """Whether oneDNN multiplies x of any shape faster; never where autocast chooses the precision."""
    plain = x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return plain and multiplications > ENOUGH and _has_onednn()


@cache
def _has_onednn() -> bool:
    """Whether PyTorch was built with it, and offers it as to its own compiler, on a processor that gains by it."""
    return is_of_amd() and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
