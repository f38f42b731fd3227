"""An autoencoder of videos as one of images: a picture is a video of one frame."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn


class FrameAutoencoder(nn.Module):
    """Qwen-Image's autoencoder without the axis of time; it answers as diffusers' `AutoencoderKL` does."""

    def __init__(self, video: AutoencoderKLQwenImage) -> None:
        super().__init__()
        self.video = video

    @property
    def config(self) -> Any:
        """Its configuration, with the mean and the deviation of each channel of the latents."""
        return self.video.config

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.video.dtype
        return dtype

    def encode(self, pixels: Tensor) -> AutoencoderKLOutput:
        """The posterior of images (B, 3, H, W) in [-1, 1]: mean and log-variance, (B, 2 C, h, w)."""
        moments = self.video.encode(pixels[:, :, None]).latent_dist.parameters
        return AutoencoderKLOutput(DiagonalGaussianDistribution(moments[:, :, 0]))

    def decode(self, latents: Tensor) -> DecoderOutput:
        """Images (B, 3, H, W) from latents (B, C, h, w)."""
        return DecoderOutput(self.video.decode(latents[:, :, None]).sample[:, :, 0])

    def save_pretrained(self, folder: Path) -> None:
        """Write a folder that diffusers loads as an `AutoencoderKLQwenImage`."""
        self.video.save_pretrained(folder)
