"""DDPM: noise in discrete steps of a schedule (Ho et al. 2020); the backbone predicts ε, v or x₀."""

from functools import cached_property
from typing import Any, cast

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.noise.choices import SAMPLERS, steps_taken
from maquette.noise.process import Prediction, Sampler
from maquette.noise.samplers import DiffusersSampler, known_settings, make_scheduler


class DDPM:
    """x_t = √ᾱ_t x₀ + √(1−ᾱ_t) ε, on the schedule of a diffusers configuration.

    Shapes: latents, noise and targets (B, C, h, w), times (B,).

    Args:
        config: of any diffusers scheduler with DDPM's steps: betas, prediction_type, num_train_timesteps.
    """

    samplers = tuple(SAMPLERS)

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.levels = int(config.get("num_train_timesteps", 1000))  # times are 0 to levels - 1

    @property
    def prediction(self) -> Prediction:
        return cast(Prediction, self.config.get("prediction_type", "epsilon"))

    @cached_property
    def _schedule(self) -> DDPMScheduler:
        """The schedule's tables, created on first use."""
        return DDPMScheduler.from_config(known_settings(self.config))

    def sample_times(self, count: int, generator: torch.Generator, tokens: int | None = None) -> Tensor:
        """Uniform in {0, …, levels − 1}, int64 (count,)."""
        return torch.randint(self.levels, (count,), generator=generator)

    def noised(self, x0: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """√ᾱ_t x₀ + √(1−ᾱ_t) ε."""
        return cast(Tensor, self._schedule.add_noise(x0, noise, times))

    def target(self, x0: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the base was trained to predict, and so the target for the ControlNet as well."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "v_prediction":
            return cast(Tensor, self._schedule.get_velocity(x0, noise, times))
        assert self.prediction == "sample", f"training on a base that predicts {self.prediction!r} is not supported"
        return x0

    def denoised(self, x: Tensor, prediction: Tensor, times: Tensor) -> Tensor:
        """(x − √(1−ᾱ) ε) / √ᾱ, or √ᾱ x − √(1−ᾱ) v; at the nearest whole time, where a sampler's lies between two."""
        if self.prediction == "sample":
            return prediction
        alpha = self._schedule.alphas_cumprod.to(x)[times.round().long().clamp(0, self.levels - 1)].view(-1, 1, 1, 1)
        signal, noise = alpha.sqrt(), (1 - alpha).sqrt()
        if self.prediction == "v_prediction":
            return signal * x - noise * prediction
        return (x - noise * prediction) / signal

    def snr(self, times: Tensor) -> Tensor:
        """ᾱ_t / (1 − ᾱ_t)."""
        self._schedule.alphas_cumprod = self._schedule.alphas_cumprod.to(times.device)
        alpha = self._schedule.alphas_cumprod[times].double()
        return alpha / (1 - alpha)

    def loss_weights(self, times: Tensor, min_snr: float = 0.0) -> Tensor | None:
        """min(SNR, γ) as weight on x₀, converted to what is predicted (Hang et al. 2023, eq. 7 and §3.4).

        min(SNR, γ) / SNR for ε, min(SNR, γ) / (SNR + 1) for v.
        """
        if not min_snr:
            return None
        snr = self.snr(times)
        if self.prediction == "sample":
            return snr.clamp(max=min_snr).float()
        ratio = (min_snr / snr).clamp(max=1)  # min(SNR, γ) / SNR; 1 where SNR is 0
        return (ratio * snr / (snr + 1) if self.prediction == "v_prediction" else ratio).float()

    def sampler(
        self, name: str, steps: int, tokens: int, strength: float = 1.0, device: torch.device | str = "cpu"
    ) -> Sampler:
        """One of diffusers' samplers on this schedule.

        Raises `MaquetteError` for an unknown name, or so many steps that their spacing runs past the schedule's end.
        """
        scheduler = make_scheduler(name, self.config)
        scheduler.set_timesteps(steps, device=device)
        if scheduler.timesteps.max() >= self.levels:
            raise MaquetteError(
                f"The sampler {name!r} takes fewer than {self.levels} steps on the noise schedule of this base, "
                f"not {steps}."
            )
        return DiffusersSampler(scheduler, steps, steps_taken(steps, strength))
