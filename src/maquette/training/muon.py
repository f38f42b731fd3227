"""Muon, momentum made orthogonal, for matrices; AdamW for the rest.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, steepest at zero
ITERATIONS = 5
SMALLEST = 1e-7  # a norm below it counts as this


class Muon(torch.optim.Optimizer):
    """One optimizer for weights that are matrices and for all others.

    A matrix moves by lr · √max(1, out / rest) along its Nesterov momentum with all singular values made about 1; a
    convolution counts as the matrix (out, in · height · width). The others follow AdamW (decoupled decay) at
    lr · `other_rate`. Each group's `lr` may be set from outside, all of them alike.

    Args:
        matrices: weights of two or more dimensions, decayed by nothing.
        others: norms, biases, embeddings, the first and the last layer.
        lr: rate of the matrices; 0.02 is usual, half of it or less when trained weights are refined.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        lr: float = 0.02,
        momentum: float = 0.95,
        other_rate: float = 0.04,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 1e-2,
    ) -> None:
        matrices, others = list(matrices), list(others)
        assert all(matrix.ndim >= 2 for matrix in matrices), "vectors have no singular values"
        groups = [
            {"params": matrices, "orthogonal": True, "momentum": momentum},
            {
                "params": others,
                "orthogonal": False,
                "share": other_rate,
                "betas": betas,
                "weight_decay": weight_decay,
                "fused": True,  # torch then restores the step counts to the weights' device
            },
        ]
        super().__init__([group for group in groups if group["params"]], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["orthogonal"]:
                self._step_matrices(group)
            else:
                self._step_others(group)
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        """Equal shapes together, since a matrix alone is too small to keep a machine busy."""
        alike: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        weights = [weight for weight in group["params"] if weight.grad is not None]
        for weight, momentum in zip(weights, self._momenta(weights, group["momentum"]), strict=True):
            alike[len(weight), weight[0].numel()].append((weight, momentum))
        for (out, rest), moved in alike.items():
            updates = orthogonal(torch.stack([momentum.reshape(out, rest) for _, momentum in moved]))
            rate = group["lr"] * math.sqrt(max(1, out / rest))
            for (weight, _), update in zip(moved, updates, strict=True):
                weight.add_(update.reshape(weight.shape), alpha=-rate)

    def _momenta(self, weights: list[nn.Parameter], decay: float) -> list[Tensor]:
        """Nesterov's, in the shapes of the weights: the running averages moved once more by the gradients."""
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        for weight, gradient in zip(weights, gradients, strict=True):
            if "momentum" not in self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(gradient)
        if not weights:
            return []
        averages = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_lerp_(averages, gradients, 1 - decay)
        return list(torch._foreach_lerp(gradients, averages, decay))

    def _step_others(self, group: dict[str, Any]) -> None:
        moving = [weight for weight in group["params"] if weight.grad is not None]
        for weight in moving:
            if not self.state[weight]:
                first, second = torch.zeros_like(weight), torch.zeros_like(weight)
                self.state[weight].update(step=torch.tensor(0.0, device=weight.device), first=first, second=second)
        states = [self.state[weight] for weight in moving]
        adamw(
            moving,
            [weight.grad for weight in moving if weight.grad is not None],
            [state["first"] for state in states],
            [state["second"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"] * group["share"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices (B, m, n) with their singular values brought to about 1 (0.7 to 1.2), in bfloat16.

    Newton-Schulz: X ← aX + (b XXᵀ + c (XXᵀ)²) X, five times, from X of norm 1.
    """
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16()
    high = x.shape[1] > x.shape[2]
    if high:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=SMALLEST)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if high else x
