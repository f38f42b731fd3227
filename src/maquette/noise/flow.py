"""Rectified flow (Liu et al. 2022, Esser et al. 2024): a straight line from latents to noise.

x_σ = (1 − σ) x₀ + σ ε, σ from 0 to 1; the backbone predicts the velocity ε − x₀. Times are 1000 σ.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown
from maquette.noise.choices import steps_taken
from maquette.noise.process import Prediction, Sampler

Density = Literal["logit_normal", "mode", "uniform"]
Weighting = Literal["none", "sigma_sqrt", "cosmap"]

UNSUPPORTED = {
    "invert_sigmas": False, "use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False,
    "stochastic_sampling": False,
}  # fmt: skip
"""Settings of diffusers' flow schedulers that are not supported, with the values that turn them off."""


@dataclass(frozen=True)
class Shift:
    """Shifts σ towards noise, since larger images need more of it: α σ / (1 + (α − 1) σ) = α / (α + 1 / σ − 1)."""

    static: float = 1.0  # α
    dynamic: bool = False  # α follows the number of image tokens instead
    kind: Literal["exponential", "linear"] = "exponential"  # α is exp(mu), or mu itself
    low: tuple[int, float] = (256, 0.5)  # tokens and mu, if dynamic: two points of a line
    high: tuple[int, float] = (4096, 1.15)

    def __call__(self, sigmas: Tensor, tokens: int | None) -> Tensor:
        """Shift sigmas in (0, 1], of any shape; without a number of tokens, a dynamic shift does nothing."""
        if self.dynamic and tokens is None:
            return sigmas
        alpha = self.alpha(tokens or 0)
        if self.dynamic:
            return alpha / (alpha + (1 / sigmas - 1))
        return alpha * sigmas / (1 + (alpha - 1) * sigmas)

    def alpha(self, tokens: int) -> float:
        if not self.dynamic:
            return self.static
        (few, at_few), (many, at_many) = self.low, self.high
        mu = at_few + (at_many - at_few) / (many - few) * (tokens - few)
        return math.exp(mu) if self.kind == "exponential" else mu

    @staticmethod
    def of(config: dict[str, Any]) -> "Shift":
        """From a configuration of diffusers' FlowMatchEulerDiscreteScheduler."""
        return Shift(
            config.get("shift", 1.0),
            config.get("use_dynamic_shifting", False),
            config.get("time_shift_type", "exponential"),
            (config.get("base_image_seq_len", 256), config.get("base_shift", 0.5)),
            (config.get("max_image_seq_len", 4096), config.get("max_shift", 1.15)),
        )


@dataclass
class FlowMatching:
    """The noise of SD3, Flux, Qwen-Image and others, configured like diffusers' FlowMatch schedulers.

    Shapes: latents, noise and targets (B, C, h, w), times (B,).

    Args:
        config: of FlowMatchEulerDiscreteScheduler: shift, dynamic shifting and its line, shift_terminal.
        density: of training times: logit-normal, heavy at both ends ("mode"), or uniform (Esser et al. 2024, §3.1).
        logit_mean, logit_std: of the normal distribution whose sigmoid is logit-normal.
        mode_scale: s of "mode".
        weighting: of the loss by time, as in Esser et al. 2024, §3.1, and published training code.
        whole_steps: whether the last sampling step starts at σ = 1 / steps before the shift, or at the smallest σ used
            in training; None as in published pipelines: the former if the shift is dynamic.

    Raises `MaquetteError` for unsupported settings.
    """

    config: dict[str, Any]
    density: Density = "logit_normal"
    logit_mean: float = 0.0
    logit_std: float = 1.0
    mode_scale: float = 1.29
    weighting: Weighting = "none"
    whole_steps: bool | None = None
    samplers: tuple[str, ...] = field(default=("euler", "heun"), init=False)

    def __post_init__(self) -> None:
        unsupported = [name for name, off in UNSUPPORTED.items() if self.config.get(name, off) != off]
        if unsupported:
            raise MaquetteError(
                f"The base's scheduler asks for {', '.join(unsupported)}, which flow matching here does not support; "
                "use a base without."
            )
        self.levels = int(self.config.get("num_train_timesteps", 1000))
        self.shift, self.terminal = Shift.of(self.config), self.config.get("shift_terminal")

    @property
    def prediction(self) -> Prediction:
        return "flow"

    def table(self) -> Tensor:
        """The sigmas used in training, float32 (levels,), descending from 1; a static shift is included."""
        sigmas = torch.from_numpy(np.linspace(1, self.levels, self.levels, dtype=np.float32)[::-1].copy()) / self.levels
        return self.shift(sigmas, None)

    def sample_times(self, count: int, generator: torch.Generator, tokens: int | None = None) -> Tensor:
        """Float32 (count,), as in published training code: u from the density, and the table's entry at u.

        With tokens, a dynamic shift is applied.
        """
        u = self._density(count, generator)
        sigmas = self.table()[(u * self.levels).long().clamp(max=self.levels - 1)]
        return self.levels * (self.shift(sigmas, tokens) if self.shift.dynamic else sigmas)

    def _density(self, count: int, generator: torch.Generator) -> Tensor:
        """Random numbers in [0, 1], (count,)."""
        if self.density == "logit_normal":
            return torch.sigmoid(torch.normal(self.logit_mean, self.logit_std, (count,), generator=generator))
        u = torch.rand(count, generator=generator)
        if self.density == "uniform":
            return u
        return 1 - u - self.mode_scale * (torch.cos(math.pi * u / 2) ** 2 - 1 + u)

    def noised(self, x0: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """(1 − σ) x₀ + σ ε."""
        sigma = self._sigma(times, x0)
        return (1 - sigma) * x0 + sigma * noise

    def target(self, x0: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """ε − x₀, whatever the time."""
        return noise - x0

    def denoised(self, x: Tensor, prediction: Tensor, times: Tensor) -> Tensor:
        """x − σ v."""
        return x - self._sigma(times, x) * prediction

    def _sigma(self, times: Tensor, like: Tensor) -> Tensor:
        """σ (B, 1, 1, 1), with the device and dtype of latents (B, C, h, w)."""
        return (times.to(like.device, torch.float32) / self.levels).to(like.dtype).view(-1, 1, 1, 1)

    def snr(self, times: Tensor) -> Tensor:
        """((1 − σ) / σ)²."""
        sigma = times.double() / self.levels
        return ((1 - sigma) / sigma) ** 2

    def loss_weights(self, times: Tensor, min_snr: float = 0.0) -> Tensor | None:
        """By the scheme of `weighting`; with min-SNR, times min(SNR, γ) σ²: an error e of the velocity is σ e in x₀."""
        if self.weighting == "none" and not min_snr:
            return None
        sigma = times.double() / self.levels
        weights = torch.ones_like(sigma)
        if self.weighting == "sigma_sqrt":
            weights = sigma**-2
        elif self.weighting == "cosmap":
            weights = 2 / (math.pi * (1 - 2 * sigma + 2 * sigma**2))
        if min_snr:
            weights = weights * self.snr(times).clamp(max=min_snr) * sigma**2
        return weights.float()

    def sigmas(self, steps: int, tokens: int) -> Tensor:
        """The sigmas of sampling, float32 (steps + 1,), from 1 to 0: evenly spaced, then shifted by image tokens."""
        whole = self.shift.dynamic if self.whole_steps is None else self.whole_steps
        last = 1 / steps if whole else float(self.table()[-1])
        sigmas: NDArray[np.float64] = np.linspace(1, last, steps)
        even = torch.from_numpy(sigmas)
        shifted = self.shift(even.float() if self.shift.dynamic else even, tokens)  # as in diffusers
        if self.terminal and steps > 1:  # a single step cannot be stretched
            shifted = 1 - (1 - shifted) / ((1 - shifted[-1]) / (1 - self.terminal))
        return torch.cat([shifted, torch.zeros(1)]).float()

    def sampler(
        self, name: str, steps: int, tokens: int, strength: float = 1.0, device: torch.device | str = "cpu"
    ) -> Sampler:
        """Euler's or Heun's method on the velocity.

        Raises `MaquetteError` for an unknown name.
        """
        if name not in self.samplers:
            raise MaquetteError(unknown("sampler", name, list(self.samplers)))
        sigmas = self.sigmas(steps, tokens)[steps - steps_taken(steps, strength) :].to(device)
        return Heun(sigmas, self.levels) if name == "heun" else Euler(sigmas, self.levels)


class Euler:
    """x ← x + (σ' − σ) v, for x and v of shape (B, C, h, w).

    Args:
        sigmas: (steps + 1,), descending to 0.
        levels: factor from σ to times.
    """

    order = 1

    def __init__(self, sigmas: Tensor, levels: int) -> None:
        self.sigmas, self.steps = sigmas, len(sigmas) - 1
        self.times = levels * sigmas[:-1]
        self._run = 0

    def start(self, noise: Tensor, x0: Tensor | None = None) -> Tensor:
        return noise if x0 is None else self.noised(x0, noise, 0)

    def noised(self, x0: Tensor, noise: Tensor, run: int) -> Tensor:
        sigma = self._at(run)
        return x0 if run == len(self.times) else (1 - sigma) * x0 + sigma * noise

    def _at(self, run: int) -> Tensor:
        """The σ at which a run starts, ()."""
        return self.sigmas[run]

    def scale(self, x: Tensor, time: Tensor) -> Tensor:
        return x

    def step(
        self, prediction: Tensor, time: Tensor, x: Tensor, generators: Sequence[torch.Generator] | None = None
    ) -> Tensor:
        sigma, after = self.sigmas[self._run : self._run + 2]
        self._run += 1
        return x + (after - sigma) * prediction


class Heun(Euler):
    """An Euler step, repeated with the mean of the velocities (B, C, h, w) at both ends; the last step is Euler's."""

    order = 2

    def __init__(self, sigmas: Tensor, levels: int) -> None:
        super().__init__(sigmas, levels)
        self.times = torch.cat([self.times[:1], self.times[1:].repeat_interleave(2)])
        self._before: tuple[Tensor, Tensor] | None = None  # x and its velocity, between a step's two runs

    def _at(self, run: int) -> Tensor:
        return self.sigmas[(run + 1) // 2]

    def step(
        self, prediction: Tensor, time: Tensor, x: Tensor, generators: Sequence[torch.Generator] | None = None
    ) -> Tensor:
        number = self._run // 2
        sigma, after = self.sigmas[number : number + 2]
        self._run += 1
        if self._before is None:
            self._before = (x, prediction) if after > 0 else None
            return x + (after - sigma) * prediction
        (x, first), self._before = self._before, None
        return x + (after - sigma) * 0.5 * (first + prediction)
