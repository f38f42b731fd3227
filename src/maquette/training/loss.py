"""The training loss."""

import torch.nn.functional as F
from torch import Tensor, nn

from maquette.backbones.protocol import Backbone
from maquette.backbones.residuals import Residuals
from maquette.controlnet.network import ControlNet
from maquette.noise.process import NoiseProcess
from maquette.text.conditioning import Conditioning


class Controlled(nn.Module):
    """A backbone and its ControlNet as one module, for DistributedDataParallel and torch.compile."""

    def __init__(self, backbone: Backbone, net: ControlNet) -> None:
        super().__init__()
        self.network, self.net = backbone.network, net
        self.backbone = backbone

    def forward(self, noisy: Tensor, timesteps: Tensor, text: Conditioning, condition: Tensor) -> Tensor:
        """The prediction (B, C, h, w) for noisy latents (B, C, h, w) at timesteps (B,); condition as for `encode`."""
        residuals: Residuals = self.net(noisy, timesteps, text, self.net.encode(condition))
        if residuals.alone is not None:
            return residuals.alone
        return self.backbone.finish(self.backbone.prepare(noisy, timesteps, text), residuals)


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
    """E‖ε − ε_θ(z_t, t, c_t, c_f)‖² (v3, eq. 5), with the base's prediction target in place of ε; a scalar.

    Args:
        model: a `Controlled`, possibly wrapped (DDP, compiled).
        process: the base's noise process: how noise is added, what is predicted, how samples are weighted.
        latents, noise: (B, C, h, w); timesteps (B,); condition as for `ControlNet.encode`.
        min_snr: γ of min-SNR weighting, 0 for none.
    """
    noisy = process.noised(latents, noise, timesteps)
    prediction = model(noisy, timesteps, text, condition)
    errors = F.mse_loss(prediction.float(), process.target(latents, noise, timesteps).float(), reduction="none")
    per_sample = errors.mean(dim=(1, 2, 3))
    weights = process.loss_weights(timesteps, min_snr)
    return per_sample.mean() if weights is None else (per_sample * weights).mean()
