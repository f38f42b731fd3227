"""A tiny decoder: from a backbone's latents to pixels by a few small convolutions (TAESD, Bohan 2023)."""

from collections.abc import Mapping
from typing import Any

from diffusers.models.autoencoders.vae import DecoderTiny
from torch import Tensor, nn

DEFAULTS: dict[str, Any] = {
    "_class_name": "AutoencoderTiny",
    "out_channels": 3,
    "decoder_block_out_channels": [64, 64, 64, 64],
    "num_decoder_blocks": [3, 3, 3, 1],
    "act_fn": "relu",
    "upsample_fn": "nearest",
    "latent_channels": 4,
    "upsampling_scaling_factor": 2,
    "scaling_factor": 1.0,
    "shift_factor": 0.0,
}
"""What diffusers' `AutoencoderTiny` takes where its config.json is silent."""


class TinyDecoder(nn.Module):
    """The decoder of an `AutoencoderTiny`: latents (B, C, h, w) to pixels (B, 3, H, W), about in [-1, 1].

    Args:
        config: the config.json of an `AutoencoderTiny`; what it leaves out is as in diffusers.
        name: the folder that it was given from; None for one of the base's own.
    """

    def __init__(self, config: Mapping[str, Any], name: str | None = None) -> None:
        super().__init__()
        self.config, self.name = {**DEFAULTS, **config}, name
        self.latent_channels: int = self.config["latent_channels"]
        blocks = tuple(self.config["num_decoder_blocks"])
        self.downscale: int = self.config["upsampling_scaling_factor"] ** (len(blocks) - 1)
        self.decoder = DecoderTiny(
            self.latent_channels,
            self.config["out_channels"],
            blocks,
            tuple(self.config["decoder_block_out_channels"]),
            self.config["upsampling_scaling_factor"],
            self.config["act_fn"],
            self.config["upsample_fn"],
        )

    @staticmethod
    def build(latent_channels: int, channels: int, blocks: tuple[int, ...]) -> "TinyDecoder":
        """An untrained one with as many channels in every layer, and so many blocks at each size, coarse to fine."""
        widths = [channels] * len(blocks)
        return TinyDecoder(
            {
                "latent_channels": latent_channels,
                "decoder_block_out_channels": widths,
                "num_decoder_blocks": list(blocks),
            }
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) from latents (B, C, h, w), scaled for the backbone."""
        scaled = latents / self.config["scaling_factor"] + (self.config["shift_factor"] or 0.0)
        pixels: Tensor = self.decoder(scaled)
        return pixels
