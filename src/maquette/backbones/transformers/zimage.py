"""Z-Image: a transformer on one sequence of an image's patches and a language model's states (Z-Image Team 2025).

The image's tokens first pass a refiner of their own. A residual is added to them after each of its blocks, and to the
whole sequence, image and text, after every block behind it.
"""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ZImageTransformer2DModel
from torch import Tensor, nn

from maquette.backbones.protocol import Slot
from maquette.backbones.residuals import Residuals
from maquette.backbones.transformers.blocks import if_trained, parameters_of, run
from maquette.backbones.transformers.packing import SIDE, unpatched
from maquette.backbones.transformers.zimage_control import ZImageControl
from maquette.backbones.transformers.zimage_copy import ZImageCopy
from maquette.backbones.transformers.zimage_sequence import ZImageState, added, embed, refined
from maquette.errors import MaquetteError
from maquette.formats.transformers.zimage import PATCH, Design, told_config
from maquette.foundation.weights import Weights
from maquette.text.conditioning import Conditioning, TextInputs


class ZImageBackbone:
    """A transformer of Z-Image as a `Backbone`, described by its own configuration.

    Shapes: latents and predictions (B, C, h, w), timestep (B,) or an int, text (B, T, D), perhaps with a mask (B, T).

    Args:
        network: gets locked: its parameters stop requiring gradients.
        downscale: pixels per latent cell, along a side, of the matching autoencoder.

    Raises `MaquetteError` for a transformer that takes images beside the latents, or other patches than 2 × 2.
    """

    family = "z-image"
    whole_steps = True

    def __init__(self, network: ZImageTransformer2DModel, downscale: int = 8) -> None:
        self.network, self.downscale, config = network.requires_grad_(False), downscale, network.config
        if config.siglip_feat_dim is not None or PATCH not in network.all_x_embedder:
            raise MaquetteError(
                "This Z-Image takes images beside the latents (siglip_feat_dim), or no patches of 2 × 2 cells; use "
                "Z-Image or Z-Image-Turbo."
            )
        self.latent_channels: int = config.in_channels
        self.text = TextInputs(config.cap_feat_dim)
        kinds = (("noise_refiner", config.n_refiner_layers), ("layers", config.n_layers))
        self.slots = tuple(
            Slot(f"{kind}.{number}", config.dim, SIDE) for kind, count in kinds for number in range(count)
        )

    def control(self, config: Mapping[str, Any] | None = None) -> ZImageControl:
        """A new one copies the refiner, and every second block behind it; another number of these, spread evenly, is a
        configuration's `num_layers`.
        """
        return ZImageControl.of(self.slots, self._design(config), dict(self.network.config))

    def told_config(self, weights: Weights) -> dict[str, Any]:
        return told_config(weights, self.network.config.n_layers)

    def make_copy(self, outputs: int, config: Mapping[str, Any] | None = None) -> ZImageCopy:
        return ZImageCopy(self.network, self._design(config), self.downscale).requires_grad_(True)

    def _design(self, config: Mapping[str, Any] | None) -> Design:
        return Design.read(config, self.network.config)

    def decoder_parameters(self) -> list[nn.Parameter]:
        """Not those of the refiner, through which ControlNets see the image as well."""
        return parameters_of(self.network.layers, self.network.all_final_layer)

    def prepare(self, latents: Tensor, timestep: Tensor | int, text: Tensor | Conditioning) -> ZImageState:
        with if_trained(self.network.t_embedder):
            return embed(self.network, self.downscale, latents, timestep, Conditioning.of(text))

    def finish(self, state: ZImageState, residuals: Residuals | None = None) -> Tensor:
        """The network predicts x₀ − ε; what is returned is the flow's velocity, ε − x₀."""
        network = self.network
        x = torch.cat([refined(network, state, residuals), state.context], dim=1)
        for slot, block in enumerate(network.layers, start=len(network.noise_refiner)):
            x = run(network, block, x, state.mask, state.rotary, state.time)
            x = added(x, state, residuals, slot)
        return -unpatched(network.all_final_layer[PATCH](x[:, : state.tokens], c=state.time), state.grid)
