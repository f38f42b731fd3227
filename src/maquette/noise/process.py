"""What training and sampling need of noise: one protocol for DDPM and for flow matching.

Legend of shapes: B batch, C channels, h × w latent size. Times are the backbone's timesteps: integer steps of a DDPM
schedule, or 1000 σ of a flow; larger times mean more noise.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]
"""What a backbone predicts: the noise, v = √ᾱ ε − √(1−ᾱ) x₀, the latents x₀, or the flow's velocity ε − x₀."""

PREDICTIONS: tuple[str, ...] = get_args(Prediction)


class Sampler(Protocol):
    """Takes one batch from noise to latents, in float32. It has state between steps: each batch needs a new one."""

    times: Tensor  # (runs,) one per run of the backbone, descending
    steps: int  # in total
    order: int  # runs of the backbone per step: run i belongs to step i // order

    def start(self, noise: Tensor, x0: Tensor | None = None) -> Tensor:
        """The input of the first run: pure noise (B, C, h, w), or latents x0 (B, C, h, w) with noise added."""
        ...

    def noised(self, x0: Tensor, noise: Tensor, run: int) -> Tensor:
        """Latents x0 (1 or B, C, h, w) at the noise level at which run `run` starts; x0 itself after the last run."""
        ...

    def scale(self, x: Tensor, time: Tensor) -> Tensor:
        """Noisy latents (B, C, h, w), scaled for the backbone at a time ()."""
        ...

    def step(
        self, prediction: Tensor, time: Tensor, x: Tensor, generators: Sequence[torch.Generator] | None = None
    ) -> Tensor:
        """The next x (B, C, h, w), from the backbone's prediction for x, of the same shape.

        Args:
            generators: one per row, for samplers that add fresh noise.
        """
        ...


class SamplerFactory(Protocol):
    """Makes a sampler of one's own; `NoiseProcess.sampler` says what the arguments mean."""

    def __call__(self, steps: int, tokens: int, strength: float, device: torch.device) -> Sampler:
        """A new sampler, for one batch."""
        ...


class NoiseProcess(Protocol):
    """The noise that a base was trained with."""

    config: dict[str, Any]  # of its scheduler, with diffusers' keys
    samplers: tuple[str, ...]  # names that `sampler` knows; the first is the default

    @property
    def prediction(self) -> Prediction:
        """What the backbone predicts."""
        ...

    def sample_times(self, count: int, generator: torch.Generator, tokens: int | None = None) -> Tensor:
        """N = `count` random training times (N,), on the CPU.

        Args:
            tokens: of one image in the backbone, for processes whose noise grows with the image size; None for no such
                shift.
        """
        ...

    def noised(self, x0: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Latents x0 with noise added, all (B, C, h, w), at times (B,)."""
        ...

    def target(self, x0: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the backbone should predict for `noised(x0, noise, times)`, (B, C, h, w)."""
        ...

    def denoised(self, x: Tensor, prediction: Tensor, times: Tensor) -> Tensor:
        """The latents x₀ that a prediction for noisy latents x points to, all (B, C, h, w), at times (B,)."""
        ...

    def snr(self, times: Tensor) -> Tensor:
        """Signal-to-noise ratio (of powers) at times (B,): float64 (B,)."""
        ...

    def loss_weights(self, times: Tensor, min_snr: float = 0.0) -> Tensor | None:
        """A factor (B,) on each row's mean squared error at times (B,); None if all are 1.

        Args:
            min_snr: γ of min-SNR weighting (Hang et al. 2023); 0 turns it off.
        """
        ...

    def sampler(
        self, name: str, steps: int, tokens: int, strength: float = 1.0, device: torch.device | str = "cpu"
    ) -> Sampler:
        """A new sampler.

        Args:
            name: one of `samplers`.
            steps: number of steps from pure noise.
            tokens: of one image in the backbone.
            strength: fraction of the steps, in (0, 1], that are run: the last ones.
            device: of the latents.

        Raises `MaquetteError` for an unknown name, or too many steps.
        """
        ...


def image_tokens(size: tuple[int, int], side: int) -> int:
    """How many tokens of `side` pixels, along a side, an image (width, height) has."""
    width, height = size
    return (width // side) * (height // side)
