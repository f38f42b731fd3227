"""The loss of one batch."""

import torch.nn.functional as F
from torch import Tensor, nn

from maquette.backbones.protocol import Backbone
from maquette.controlnet.network import ControlNet
from maquette.noise.process import NoiseProcess
from maquette.text.conditioning import Conditioning


class Controlled(nn.Module):
    """A backbone and a ControlNet on it as one network: what several processes train and a compiler sees."""

    def __init__(self, backbone: Backbone, net: ControlNet) -> None:
        super().__init__()
        self.network, self.net = backbone.network, net
        self.backbone = backbone

    def forward(self, noisy: Tensor, timesteps: Tensor, text: Conditioning, condition: Tensor) -> Tensor:
        """The prediction for noisy latents (B, C, h, w) at timesteps (B,); the condition as `encode` takes it."""
        prepared = self.backbone.prepare(noisy, timesteps, text)
        residuals = self.net(noisy, timesteps, text, self.net.encode(condition))
        return self.backbone.finish(prepared, residuals)


def loss(
    model: nn.Module,
    process: NoiseProcess,
    latents: Tensor,
    text: Conditioning,
    condition: Tensor,
    timesteps: Tensor,
    noise: Tensor,
    min_snr: float = 0.0,
) -> Tensor:
    """E‖ε − ε_θ(z_t, t, c_t, c_f)‖² (v3, eq. 5), or of what else the base predicts.

    Args:
        model: a `Controlled`, wrapped or not.
        process: the base's, which says how noise is put on, what is predicted, and how rows are weighted.
        latents, noise: (B, C, h, w); timesteps (B,); condition as `ControlNet.encode` takes it.
        min_snr: γ of the weighting, 0 for none.
    """
    noisy = process.noised(latents, noise, timesteps)
    prediction = model(noisy, timesteps, text, condition)
    errors = F.mse_loss(prediction.float(), process.target(latents, noise, timesteps).float(), reduction="none")
    each = errors.mean(dim=(1, 2, 3))
    weights = process.loss_weights(timesteps, min_snr)
    return each.mean() if weights is None else (each * weights).mean()
