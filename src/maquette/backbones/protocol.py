"""The one seam between ControlNets and base models: what every backbone must provide.

Legend of shapes: B batch, C channels, h × w latent size, H × W image size,
L text tokens, D text width. Transformer tokens are passed as maps: (B, tokens, C)
with p × p latents per token becomes (B, C, h / p, w / p), a slot with `channels` C and `downscale` p.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from maquette.backbones.residuals import Residuals
from maquette.backbones.wiring import Wiring
from maquette.backbones.zero import zero_convolution
from maquette.errors import MaquetteError
from maquette.foundation.weights import Weights
from maquette.text.conditioning import Conditioning, TextInputs

ConditionSpace = Literal["pixels", "latents"]
"""Input of a condition encoder: the condition map, or its latents from the autoencoder."""


Paints = Literal["never", "only", "also"]
"""Whether a condition is a picture of which a part is to be painted in, or may be one in place of a map."""


@dataclass(frozen=True)
class Slot:
    """A place where a ControlNet may add to the backbone, or a ControlNet output that fits such a place."""

    name: str
    channels: int
    downscale: int  # how many times smaller than the latents


@dataclass(frozen=True)
class Typed:
    """One of the conditions that a union ControlNet is given at once."""

    features: Tensor  # (B or 1, C, h, w), E(c)
    type: int  # number of its kind
    weight: float = 1.0


class Copy(Protocol):
    """The part of a backbone that a ControlNet copies."""

    def __call__(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor | Conditioning,
        control_features: Any = None,
        outputs: int | None = None,
    ) -> Sequence[Tensor]:
        """The first `outputs` outputs, or all of them if None: each (B, C, h, w), as its slot says.

        Args:
            latents: (B, C, h, w); timestep an int or (B,).
            control_features: (B or 1, C, h, w), added to the first layer's output; of a union a list of `Typed`.

        Of a family with `early` outputs it takes a function, `early`, from these to the residuals they become. If it
        begins with zero layers, they are in a list `entries`; if it runs parts of its base, `runs.network` is that.
        """


class ControlFamily(Protocol):
    """What a ControlNet on a backbone is made of, and how it is saved and loaded; it holds no weights.

    Methods with a body are defaults that fit most families.
    """

    parts: ClassVar[Mapping[str, str]] = {}  # beginnings of its weights' names and of published ones, if that is all
    outputs: tuple[Slot, ...]  # of the copy
    wiring: Wiring  # of a new ControlNet
    condition_space: ConditionSpace
    shifts_latents: bool = True  # whether a condition's latents are shifted as an image's are
    types: int = 0  # kinds of condition that a union tells apart; 0 of any other ControlNet
    joins_types: bool = True  # whether a union takes several conditions in one run
    paints: Paints = "never"  # whether it is given pictures with a part to be painted in
    serves_both: bool = False  # whether residuals under the prompt are added under the negative prompt too
    idle_weights: bool = False  # whether some weights reach no output, so that they get no gradient
    first_layer: str = ""  # published name of the weight that reads the latents, where variant "channels" widens it
    early: int = 0  # first outputs whose residuals the copy has to know, since what it sees further on holds them
    enters_copy: bool = False  # whether the copy begins with the zero layer, behind a condition encoder without one

    def zero_layer(self, output: Slot) -> nn.Module:
        """The layer between an output and its slots: (B, C, h, w) to the same shape, initially zero."""
        return zero_convolution(output.channels, output.channels)

    def zero_layers(self) -> list[nn.Module]:
        """Those of all outputs, in their order."""
        return [self.zero_layer(output) for output in self.outputs]

    def condition_encoder(self) -> nn.Module | None:
        """Its own condition encoder, with a last layer `conv_out`; None for the usual one of its condition space."""
        return None

    def painted(
        self,
        pictures: Tensor,
        blank: Tensor,
        kept: Tensor,
        encode: Callable[[Tensor], Tensor],
        maps: Tensor | None = None,
    ) -> Tensor:
        """The condition encoder's input (B, C', h, w) for pictures to paint in, as far as a family `paints`.

        Args:
            pictures: (B, 3, H, W) in [0, 1].
            blank: (B, 1, H, W) bool, True where they are to be painted in.
            kept: (B, 1, h, w) bool, True at cells that are not.
            encode: from pictures to latents (B, C, h, w).
            maps: (B, 3, H, W) in [0, 1], to be followed meanwhile; only where it `paints` "also".
        """
        latents = encode(pictures.masked_fill(blank, 0))
        return torch.cat([latents, kept.to(latents)], dim=1)

    def published(self, name: str) -> str:
        """The published name of a weight in `trainable_copy.`, `condition_encoder.` or `zero_convs.NUMBER.`."""
        part = next(part for part in self.parts if name.startswith(part))
        return self.parts[part] + name.removeprefix(part)

    def config(self, encoder: nn.Module) -> dict[str, Any]:
        """config.json of a ControlNet with this condition encoder, for other libraries to load."""

    def widened_config(self, channels: int) -> dict[str, Any]:
        """config.json of the backbone's network with that many more input channels, for variant "channels".

        Raises `MaquetteError` for a family that has no such variant.
        """
        raise MaquetteError("Added channels are for U-Nets and Stable Diffusion 3.")

    def read(self, config: Mapping[str, Any], weights: Weights, base: Weights) -> Weights:
        """A ControlNet's tensors under their published names, loaded lazily.

        Args:
            config: its config.json; empty if there is none.
            base: the weights that a ControlNet copies, for formats that store it relative to them.

        Raises `MaquetteError` if they are not a ControlNet, or belong to another base.
        """
        return weights


class Backbone(Protocol):
    """The denoising network, in two halves; a ControlNet adds its residuals between them.

    One that was trained with another guidance than the classifier-free has a method `guide` (negative, positive,
    scale), each prediction (B, C, h, w), in its place. One whose last sampling step starts at σ = 1 / steps, though its
    shift is static, has `whole_steps` True.
    """

    family: str  # its name in `checkpoints.families`
    network: nn.Module  # all weights, locked unless training unlocks some
    latent_channels: int
    downscale: int  # pixels per latent cell, along a side
    text: TextInputs
    slots: tuple[Slot, ...]  # every place where residuals may be added, in order

    def prepare(self, latents: Tensor, timestep: Tensor | int, text: Tensor | Conditioning) -> Any:
        """Run everything before the first slot on latents (B, C, h, w) at timestep (B,) or an int, with text (B, L, D).

        No gradients are recorded while the backbone is locked. The result is opaque: only `finish` reads it.
        """

    def finish(self, state: Any, residuals: Residuals | None = None) -> Tensor:
        """The prediction (B, C, h, w), with residuals added.

        Gradients reach the residuals and any unlocked weights.
        """

    def decoder_parameters(self) -> list[nn.Parameter]:
        """The weights that `finish` uses; training may unlock them once a ControlNet has converged."""

    def control(self, config: Mapping[str, Any] | None = None) -> ControlFamily:
        """How a ControlNet on this backbone is built: a new one, or the one that a config.json describes."""

    def told_config(self, weights: Weights) -> Mapping[str, Any]:
        """The config.json of a ControlNet's file that has none, as far as its tensors tell it; often empty."""

    def make_copy(self, outputs: int, config: Mapping[str, Any] | None = None) -> nn.Module:
        """A trainable copy, with the interface of `Copy`, for a ControlNet with this many outputs.

        Args:
            config: the config.json of a ControlNet that is being loaded; None for a new one.
        """
