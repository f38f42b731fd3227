"""Samplers for DDPM: diffusers' schedulers under short names."""

import inspect
from collections.abc import Sequence
from typing import Any, Protocol, cast

import diffusers
import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown
from maquette.noise.choices import SAMPLERS


class Scheduler(Protocol):
    """The part of diffusers' scheduler interface that a sampler uses; latents (B, C, h, w), timesteps (B,) or ()."""

    timesteps: Tensor
    init_noise_sigma: float | Tensor
    order: int

    def set_timesteps(self, steps: int, device: Any = None) -> None: ...

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor: ...

    def step(self, prediction: Tensor, timestep: Tensor, sample: Tensor, **more: Any) -> Any: ...

    def add_noise(self, original: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor: ...


def make_scheduler(name: str, config: dict[str, Any]) -> Scheduler:
    """A new scheduler, one of `SAMPLERS`, with a base's noise schedule.

    Raises `MaquetteError` for an unknown name.
    """
    if name not in SAMPLERS:
        raise MaquetteError(unknown("sampler", name, SAMPLERS))
    class_name, settings = SAMPLERS[name]
    scheduler: Scheduler = getattr(diffusers, class_name).from_config(known_settings(config), **settings)
    return scheduler


def known_settings(config: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's configuration without its class name, for use with another class."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


class DiffusersSampler:
    """A `Sampler` that wraps one of diffusers' schedulers; latents, noise and predictions are (B, C, h, w).

    Args:
        scheduler: with its timesteps already set for `steps` steps.
        taken: how many of the steps are run: the last ones.
    """

    def __init__(self, scheduler: Scheduler, steps: int, taken: int) -> None:
        self._scheduler = scheduler
        self.steps, self.order = taken, scheduler.order
        self.times = scheduler.timesteps[(steps - taken) * scheduler.order :]
        if hasattr(scheduler, "set_begin_index"):  # timesteps may repeat, so that they do not tell the step
            scheduler.set_begin_index((steps - taken) * scheduler.order)
        # Ancestral samplers add noise in every step.
        self._adds_noise = "generator" in inspect.signature(scheduler.step).parameters

    def start(self, noise: Tensor, x0: Tensor | None = None) -> Tensor:
        return noise * self._scheduler.init_noise_sigma if x0 is None else self.noised(x0, noise, 0)

    def noised(self, x0: Tensor, noise: Tensor, run: int) -> Tensor:
        if run == len(self.times):
            return x0
        return self._scheduler.add_noise(x0.expand_as(noise), noise, self.times[run].expand(len(noise)))

    def scale(self, x: Tensor, time: Tensor) -> Tensor:
        return self._scheduler.scale_model_input(x, time)

    def step(
        self, prediction: Tensor, time: Tensor, x: Tensor, generators: Sequence[torch.Generator] | None = None
    ) -> Tensor:
        more = {"generator": generators} if self._adds_noise else {}
        return cast(Tensor, self._scheduler.step(prediction, time, x, **more).prev_sample)
