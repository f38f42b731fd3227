"""The loss of one batch."""

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor

from maquette.base import Base
from maquette.controlnet.network import ControlNet

PREDICTIONS = ("epsilon", "v_prediction")


def noise_schedule(base: Base) -> DDPMScheduler:
    """The base's own schedule, for putting noise on and for the target."""
    known = {key: value for key, value in base.schedule.items() if not key.startswith("_")}
    return DDPMScheduler.from_config(known)


def target(schedule: DDPMScheduler, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the base was trained to predict, and the ControlNet's training therefore too."""
    kind = schedule.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        velocity: Tensor = schedule.get_velocity(latents, noise, timesteps)
        return velocity
    raise AssertionError(f"the training was begun on a base that predicts {kind!r}")


def loss(
    base: Base,
    net: ControlNet,
    schedule: DDPMScheduler,
    latents: Tensor,
    text: Tensor,
    condition: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """E‖ε − ε_θ(z_t, t, c_t, c_f)‖² (v3, eq. 5) of latents (B, C, h, w), text (B, L, D), condition (B, 3, H, W).

    Noise and uniform timesteps come from `generator`, on the CPU; gradients reach `net` alone.
    """
    count = len(latents)
    timesteps = torch.randint(schedule.config.num_train_timesteps, (count,), generator=generator).to(latents.device)
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    noisy = schedule.add_noise(latents, noise, timesteps)
    encoded = base.backbone.encode(noisy, timesteps, text)
    residuals = net(noisy, timesteps, text, net.encode(condition))
    prediction = base.backbone.decode(encoded, residuals)
    return F.mse_loss(prediction.float(), target(schedule, latents, noise, timesteps).float())
