"""The loss of one batch."""

import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor, nn

from maquette.backbones.protocol import Backbone
from maquette.base import Base
from maquette.controlnet.network import ControlNet
from maquette.text.conditioning import Conditioning

PREDICTIONS = ("epsilon", "v_prediction")


class Controlled(nn.Module):
    """A backbone and a ControlNet on it as one network: what several processes train and a compiler sees."""

    def __init__(self, backbone: Backbone, net: ControlNet) -> None:
        super().__init__()
        self.network, self.net = backbone.network, net
        self.backbone = backbone

    def forward(self, noisy: Tensor, timesteps: Tensor, text: Conditioning, condition: Tensor) -> Tensor:
        prepared = self.backbone.prepare(noisy, timesteps, text)
        residuals = self.net(noisy, timesteps, text, self.net.encode(condition))
        return self.backbone.finish(prepared, residuals)


def noise_schedule(base: Base) -> DDPMScheduler:
    """The base's own schedule, for putting noise on and for the target; its tables lie on the base's device."""
    known = {key: value for key, value in base.schedule.items() if not key.startswith("_")}
    schedule = DDPMScheduler.from_config(known)
    schedule.alphas_cumprod = schedule.alphas_cumprod.to(base.device)
    return schedule


def target(schedule: DDPMScheduler, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the base was trained to predict, and the ControlNet's training therefore too."""
    kind = schedule.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        velocity: Tensor = schedule.get_velocity(latents, noise, timesteps)
        return velocity
    raise AssertionError(f"the training was begun on a base that predicts {kind!r}")


def min_snr_weights(schedule: DDPMScheduler, timesteps: Tensor, gamma: float) -> Tensor:
    """min(SNR, γ) / SNR for ε, min(SNR, γ) / (SNR + 1) for v (Hang et al. 2023, eq. 7 and §3.4), one a row."""
    alpha = schedule.alphas_cumprod[timesteps].double()
    snr = alpha / (1 - alpha)
    share = (gamma / snr).clamp(max=1)  # min(SNR, γ) / SNR, and 1 where a schedule ends in noise alone
    velocity = schedule.config.prediction_type == "v_prediction"
    return (share * snr / (snr + 1) if velocity else share).float()


def loss(
    model: nn.Module,
    schedule: DDPMScheduler,
    latents: Tensor,
    text: Conditioning,
    condition: Tensor,
    timesteps: Tensor,
    noise: Tensor,
    min_snr: float = 0.0,
) -> Tensor:
    """E‖ε − ε_θ(z_t, t, c_t, c_f)‖² (v3, eq. 5), or of v where the base predicts it.

    Args:
        model: a `Controlled`, wrapped or not.
        latents, noise: (B, C, h, w); timesteps (B,); condition as `ControlNet.encode` takes it.
        min_snr: γ of the weighting, 0 for none.
    """
    noisy = schedule.add_noise(latents, noise, timesteps)
    prediction = model(noisy, timesteps, text, condition)
    errors = F.mse_loss(prediction.float(), target(schedule, latents, noise, timesteps).float(), reduction="none")
    each = errors.mean(dim=(1, 2, 3))
    return (each * min_snr_weights(schedule, timesteps, min_snr)).mean() if min_snr else each.mean()
