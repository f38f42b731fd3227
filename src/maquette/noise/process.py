"""What training and sampling know of noise: one protocol for DDPM and for flow matching.

Legend of shapes: B batch, C channels, h × w latent size. Times are what the backbone is told: whole steps of a DDPM
schedule, or 1000 σ of a flow; more time is more noise.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]
"""What a backbone predicts: the noise, v = √ᾱ ε − √(1−ᾱ) x₀, the latents x₀, or the flow's velocity ε − x₀."""

PREDICTIONS: tuple[str, ...] = get_args(Prediction)


class Sampler(Protocol):
    """One batch's way from noise to latents; it keeps what it needs between the steps, so a batch takes a fresh one.

    It works in float32.
    """

    times: Tensor  # (runs,) one for each run of the backbone, in order, descending
    steps: int  # in all
    order: int  # runs of the backbone in a step: run i belongs to step i // order

    def start(self, noise: Tensor, x0: Tensor | None = None) -> Tensor:
        """What the first run begins with: noise (B, C, h, w) alone, or x0, (B, C, h, w), under it."""
        ...

    def noised(self, x0: Tensor, noise: Tensor, run: int) -> Tensor:
        """Latents x0, (1 or B, C, h, w), as noisy as what run `run` begins with; x0 itself after the last one."""
        ...

    def scale(self, x: Tensor, time: Tensor) -> Tensor:
        """Noisy latents (B, C, h, w) as the backbone takes them at a time ()."""
        ...

    def step(
        self, prediction: Tensor, time: Tensor, x: Tensor, generators: Sequence[torch.Generator] | None = None
    ) -> Tensor:
        """What follows x, (B, C, h, w), given the backbone's prediction there, like x in shape.

        Args:
            generators: one a row, for samplers that put on fresh noise.
        """
        ...


class NoiseProcess(Protocol):
    """How a base was trained to see noise."""

    config: dict[str, Any]  # of its scheduler, in diffusers' words
    samplers: tuple[str, ...]  # names that `sampler` knows; the first is used where nothing says another

    @property
    def prediction(self) -> Prediction:
        """What the backbone predicts."""
        ...

    def sample_times(self, count: int, generator: torch.Generator, tokens: int | None = None) -> Tensor:
        """Times (count,) to train at, on the CPU.

        Args:
            tokens: of one image in the backbone, for processes whose noise grows with the size; None for none of that.
        """
        ...

    def noised(self, x0: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Latents x0 under noise, all (B, C, h, w), at times (B,)."""
        ...

    def target(self, x0: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the backbone should predict of `noised(x0, noise, times)`, (B, C, h, w)."""
        ...

    def snr(self, times: Tensor) -> Tensor:
        """Signal-to-noise ratio, in power, at times (B,): float64 (B,)."""
        ...

    def loss_weights(self, times: Tensor, min_snr: float = 0.0) -> Tensor | None:
        """A factor (B,) on each row's mean squared error at times (B,); None where all are 1.

        Args:
            min_snr: γ of min-SNR weighting (Hang et al. 2023), 0 for none.
        """
        ...

    def sampler(
        self, name: str, steps: int, tokens: int, strength: float = 1.0, device: torch.device | str = "cpu"
    ) -> Sampler:
        """A fresh sampler.

        Args:
            name: one of `samplers`.
            steps: from noise alone.
            tokens: of one image in the backbone.
            strength: share of the steps, in (0, 1], that are taken: the last ones.
            device: of the latents.

        Raises `MaquetteError` for an unknown name, or more steps than it can take.
        """
        ...


def image_tokens(size: tuple[int, int], step: int) -> int:
    """How many tokens an image (width, height) has, of `step` pixels a side."""
    width, height = size
    return (width // step) * (height // step)
