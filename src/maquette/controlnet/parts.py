"""The parts that a ControlNet is made of, by its design, and what they hold before the first step."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from maquette.backbones.protocol import Backbone, ControlFamily, Slot
from maquette.controlnet.choices import BY_ITSELF, EncoderName, Variant
from maquette.controlnet.condition_encoder import ENCODERS, LatentEncoder
from maquette.controlnet.variants import AddedChannels, LiteEncoder
from maquette.errors import MaquetteError

RANK = 16
"""Of the low-rank matrices of a new control in context; OminiControl usually has 4, on a wide transformer, Flux."""


def make_copy(
    backbone: Backbone, variant: Variant, outputs: tuple[Slot, ...], config: Mapping[str, Any] | None
) -> nn.Module:
    """What is trained beside the condition encoder and the zero layers.

    Raises `MaquetteError` for a variant that the backbone's family does not have.
    """
    if variant == "lite":
        return LiteEncoder(backbone.latent_channels, outputs)
    if variant not in BY_ITSELF:
        return backbone.make_copy(len(outputs), config)
    method, reason = _BY_ITSELF[variant]
    make: Callable[..., nn.Module] | None = getattr(backbone, method, None)
    if make is None:
        raise MaquetteError(f"variant={variant!r} {reason}, and this base is of the family {backbone.family!r}.")
    return make() if variant == "channels" else make((config or {}).get("rank", RANK))


_BY_ITSELF = {
    "channels": ("make_whole_copy", "is for U-Nets and Stable Diffusion 3"),
    "context": (
        "make_context",
        "is for Stable Diffusion 3, where image and condition are tokens of one sequence",
    ),
}
"""A backbone's method that makes the variant, and which bases have it."""


def make_condition_encoder(
    backbone: Backbone, variant: Variant, encoder: EncoderName, control: ControlFamily
) -> nn.Module:
    """A condition encoder with the shape of the copy's first output."""
    first = control.outputs[0]
    if control.condition_space == "latents":
        has_bias = variant != "channels"  # the first convolution has one
        channels = backbone.latent_channels + (control.paints == "only")
        return LatentEncoder(channels, first.channels, first.downscale, has_bias)
    if variant == "channels":
        return AddedChannels(first.channels, backbone.downscale * first.downscale)
    return ENCODERS[encoder](first.channels, backbone.downscale * first.downscale)


def initialise(net: Any, generator: torch.Generator) -> None:
    """Gaussian weights in a net's condition encoder; its last layers are zero unless the variant is "gaussian"."""
    variant: Variant = net.config.variant
    if variant == "context":
        net.trainable_copy.initialise(generator)
    fresh = [net.condition_encoder, *([net.trainable_copy] if variant == "lite" else [])]
    for convolution in (layer for part in fresh for layer in part.modules() if isinstance(layer, nn.Conv2d)):
        _gaussian(convolution, generator)
    last = [net.condition_encoder.conv_out]
    if net.control.enters_copy and variant != "lite":
        _gaussian(net.condition_encoder.conv_out, generator)
        last = net.trainable_copy.entries
    zeroed = (layer for part in (*last, *net.zero_convs) for layer in part.modules())
    for layer in (layer for layer in zeroed if isinstance(layer, nn.Conv2d | nn.Linear)):
        if variant == "gaussian":
            _gaussian(layer, generator)
        else:
            nn.init.zeros_(layer.weight)


@torch.no_grad()
def _gaussian(layer: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    """He initialisation, zero bias; sampled on the CPU, so the same on every device."""
    fan_in = layer.weight[0].numel()
    weight = torch.randn(layer.weight.shape, generator=generator) * (2 / fan_in) ** 0.5
    layer.weight.copy_(weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
