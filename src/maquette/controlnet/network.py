"""A ControlNet: a trainable copy of a backbone's encoder between zero convolutions, and a condition encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

import torch
from torch import Tensor, nn

from maquette.backbones.protocol import Backbone, Encoded, Residuals, Slot, TextFeatures, TextInputs
from maquette.controlnet.choices import Connect, EncoderName, Kind
from maquette.controlnet.contract import Contract
from maquette.controlnet.encoder import ENCODERS
from maquette.controlnet.variants import LiteEncoder
from maquette.controlnet.zero import zero_convolution
from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown


@dataclass(frozen=True)
class Design:
    """What kind of ControlNet it is."""

    encoder: EncoderName = "release"  # layout of the condition encoder: the published one, or the paper's words
    connect: Connect = "all"  # which residuals are used: every slot, or the middle block's alone (small-scale training)
    kind: Kind = "zero"  # zero convolutions; Gaussian ones or convolutions in the copy's place, for ablations

    def __post_init__(self) -> None:
        for name, given, known in (
            ("encoder", self.encoder, get_args(EncoderName)),
            ("connect", self.connect, get_args(Connect)),
            ("kind", self.kind, get_args(Kind)),
        ):
            if given not in known:
                raise MaquetteError(unknown(f"ControlNet {name}", given, list(known)))


class HasBackbone(Protocol):
    @property
    def backbone(self) -> Backbone: ...


class ControlNet(nn.Module):
    """Knows a backbone's slots, never its class.

    Shapes: latents (B, C, h, w), timestep an int or (B,), text (B, L, D), condition (B, 3, H, W) in [0, 1], RGB.
    """

    def __init__(self, backbone: Backbone, design: Design, copy: nn.Module) -> None:
        super().__init__()
        self.design = design
        self.contract = Contract()
        self.slots: tuple[Slot, ...] = backbone.slots
        self.text: TextInputs = backbone.text
        self.downscale: int = backbone.downscale
        self.latent_channels: int = backbone.latent_channels
        self.description: dict[str, Any] = backbone.describe_copy()
        self.copy = copy
        self.encoder = ENCODERS[design.encoder](self.slots[0].channels, self.downscale)
        self.connections = nn.ModuleList(zero_convolution(slot.channels, slot.channels) for slot in self.slots)

    @classmethod
    def attach(
        cls,
        base: HasBackbone,
        encoder: EncoderName = "release",
        connect: Connect = "all",
        kind: Kind = "zero",
        seed: int = 0,
    ) -> "ControlNet":
        """A fresh ControlNet on a base, in its dtype and on its device; the output is unchanged, bitwise.

        Only the blocks that train are copied. `seed` decides the condition encoder's Gaussian weights.
        Not unchanged with kind="gaussian": that is what the ablation shows.
        """
        design = Design(encoder, connect, kind)
        net = cls.build(base.backbone, design)
        _initialise(net, torch.Generator().manual_seed(seed))
        return net

    @classmethod
    def build(cls, backbone: Backbone, design: Design) -> "ControlNet":
        """The modules of a ControlNet, the copy already holding the backbone's weights."""
        like = next(backbone.network.parameters())
        lite = design.kind == "lite"
        copy = LiteEncoder(backbone.latent_channels, backbone.slots) if lite else backbone.copy_encoder()
        return cls(backbone, design, copy).to(like.device, like.dtype)

    @property
    def device(self) -> torch.device:
        return self.connections[-1].weight.device  # type: ignore[return-value]

    @property
    def dtype(self) -> torch.dtype:
        return self.connections[-1].weight.dtype  # type: ignore[return-value]

    def encode(self, condition: Tensor) -> Tensor:
        """E(c_i): condition features (B, C, h, w), needed once a generation, not once a step."""
        if condition.shape[-1] % self.downscale or condition.shape[-2] % self.downscale:
            raise MaquetteError(
                f"A condition map's sides are multiples of {self.downscale} pixels, not "
                f"{condition.shape[-1]}×{condition.shape[-2]}; resize or crop it."
            )
        ordered = condition if self.contract.channel_order == "rgb" else condition.flip(1)
        features: Tensor = self.encoder(ordered.to(self.device, self.dtype))
        return features

    def forward(
        self, latents: Tensor, timestep: Tensor | int, text: Tensor | TextFeatures, features: Tensor
    ) -> Residuals:
        """What to add to each slot of the backbone; `features` of one row serve the whole batch."""
        encoded: Encoded = self.copy(latents, timestep, text, features)
        last = len(self.slots) - 1
        residuals = Residuals(
            connection(feature) if self.design.connect == "all" or number == last else None
            for number, (connection, feature) in enumerate(zip(self.connections, encoded.features, strict=True))
        )
        return residuals.pooled() if self.contract.pooled else residuals

    def fits(self, backbone: Backbone) -> bool:
        """Whether its latents, its text and its residuals are those of a backbone."""
        return (
            self.latent_channels == backbone.latent_channels
            and self.downscale == backbone.downscale
            and self.text == backbone.text
            and _shape(self.slots) == _shape(backbone.slots)
        )

    def save(self, folder: str | Path) -> None:
        """Write a diffusers folder, config.json and diffusion_pytorch_model.safetensors, in the net's dtype."""
        from maquette.controlnet.files import save

        save(self, Path(folder))

    def push(self, name: str, run: str | Path | None = None, *, private: bool = False, token: str | None = None) -> str:
        """Put it on the Hub as org/name with a model card; the address of its page.

        Args:
            run: the folder of its training, whose settings, curve and last grid go onto the card.
        """
        from maquette.controlnet.publish import push

        return push(self, name, Path(run) if run is not None else None, private, token)


def _shape(slots: Sequence[Slot]) -> list[tuple[int, int]]:
    return [(slot.channels, slot.downscale) for slot in slots]


def _initialise(net: ControlNet, generator: torch.Generator) -> None:
    """Gaussian weights in the condition encoder, the last layer zero unless the design says otherwise."""
    fresh = [net.encoder, *([net.copy] if net.design.kind == "lite" else [])]
    for layer in (layer for part in fresh for layer in part.modules() if isinstance(layer, nn.Conv2d)):
        _gaussian(layer, generator)
    last = [net.encoder.conv_out, *net.connections]
    for layer in last:
        assert isinstance(layer, nn.Conv2d)
        if net.design.kind == "gaussian":
            _gaussian(layer, generator)
        else:
            nn.init.zeros_(layer.weight)


@torch.no_grad()
def _gaussian(layer: nn.Conv2d, generator: torch.Generator) -> None:
    """Normal weights that keep the variance (He), zero bias; drawn on the CPU, the same on every device."""
    fan_in = layer.weight[0].numel()
    drawn = torch.randn(layer.weight.shape, generator=generator) * (2 / fan_in) ** 0.5
    layer.weight.copy_(drawn)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
