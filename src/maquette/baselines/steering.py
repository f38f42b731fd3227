"""Sampling that follows the gradient of an error: any sampler, with guidance after each of its first steps."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from maquette.noise.process import Sampler


class Steered:
    """A `Sampler` whose every step x → x' becomes x' − α ∇ error(x), α = β ‖x − x'‖ / ‖∇ error(x)‖.

    So β is the length of the guidance's step as a share of the sampler's own, whatever the error's scale. All latents
    are (B, C, h, w), and each picture has its own α.

    Args:
        error: (B,), of latents (B, C, h, w) at a scalar time; a row's depends on that row alone.
        strength: β.
        until: the share of the steps, the first ones, that are steered.
    """

    def __init__(
        self, plain: Sampler, error: Callable[[Tensor, Tensor], Tensor], strength: float, until: float
    ) -> None:
        self._plain, self._error, self._strength = plain, error, strength
        self.times, self.steps, self.order = plain.times, plain.steps, plain.order
        self._steered, self._run = until * len(plain.times), 0

    def start(self, noise: Tensor, x0: Tensor | None = None) -> Tensor:
        """(B, C, h, w)."""
        return self._plain.start(noise, x0)

    def noised(self, x0: Tensor, noise: Tensor, run: int) -> Tensor:
        """(B, C, h, w)."""
        return self._plain.noised(x0, noise, run)

    def scale(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, C, h, w)."""
        return self._plain.scale(x, time)

    def step(
        self, prediction: Tensor, time: Tensor, x: Tensor, generators: Sequence[torch.Generator] | None = None
    ) -> Tensor:
        """(B, C, h, w)."""
        gradient = self._gradient(x, time) if self._run < self._steered else None
        following = self._plain.step(prediction, time, x, generators)
        self._run += 1
        if gradient is None:
            return following
        length = self._strength * _norm(x - following) / _norm(gradient).clamp_min(1e-12)
        return following - length * gradient

    def _gradient(self, x: Tensor, time: Tensor) -> Tensor:
        """Of the error, with respect to x (B, C, h, w)."""
        with torch.enable_grad():
            watched = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self._error(watched, time).sum(), watched)
        return gradient


def _norm(x: Tensor) -> Tensor:
    """(B, 1, 1, 1): of each row of x (B, C, h, w)."""
    return x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
