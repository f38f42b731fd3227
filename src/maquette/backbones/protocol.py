"""The one seam between ControlNets and base models: what any backbone must answer.

Legend of shapes: B batch, C channels, h × w latent size, H × W image size,
L text tokens, D text width. Tokens of a transformer travel as maps: (B, tokens, C)
with p × p latents a token is (B, C, h / p, w / p), a slot of `channels` C and `downscale` p.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from maquette.backbones.residuals import Residuals
from maquette.backbones.wiring import Wiring
from maquette.backbones.zero import zero_convolution
from maquette.foundation.weights import Weights
from maquette.text.conditioning import Conditioning, TextInputs

ConditionSpace = Literal["pixels", "latents"]
"""What a condition encoder takes: the condition map, or the autoencoder's latents of it."""


@dataclass(frozen=True)
class Slot:
    """A place where a ControlNet may add to the backbone, or an output of a ControlNet that fits one."""

    name: str
    channels: int
    downscale: int  # how many times smaller than the latents


class Copy(Protocol):
    """The part of a backbone that a ControlNet copies."""

    def __call__(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor | Conditioning,
        added: Tensor | None = None,
        outputs: int | None = None,
    ) -> Sequence[Tensor]:
        """The first `outputs` outputs, all of them without a number: each (B, C, h, w) of its slot.

        Args:
            latents: (B, C, h, w); timestep an int or (B,).
            added: (B or 1, C, h, w) control features, which join the first layer's output.
        """


class ControlFamily(Protocol):
    """What a ControlNet on a backbone is made of, and how it is written and read; it holds no weights.

    What has a body here is so for most families.
    """

    outputs: tuple[Slot, ...]  # what the copy gives
    wiring: Wiring  # of a fresh one
    condition_space: ConditionSpace

    def zero_layer(self, output: Slot) -> nn.Module:
        """What an output passes before it is added: (B, C, h, w) to the same shape, zero at first."""
        return zero_convolution(output.channels, output.channels)

    def published(self, name: str) -> str:
        """The name under which files keep a weight: of `copy.`, `encoder.` or `connections.NUMBER.`."""

    def config(self, encoder: nn.Module) -> dict[str, Any]:
        """config.json of a ControlNet with this condition encoder, so that others load it."""

    def read(self, config: Mapping[str, Any], weights: Weights, base: Weights) -> Weights:
        """A ControlNet's tensors under their published names, still unread.

        Args:
            config: what stands beside them; empty where nothing does.
            base: what a ControlNet copies, for formats that are told relative to it.

        Raises `MaquetteError` where they are no ControlNet, or one of another base.
        """
        return weights


class Backbone(Protocol):
    """The network that predicts, in two halves between which a ControlNet adds."""

    family: str  # by which `checkpoints.families` knows it
    network: nn.Module  # all its weights, locked unless a training unlocks some
    latent_channels: int
    downscale: int  # pixels to one latent cell, a side
    text: TextInputs
    slots: tuple[Slot, ...]  # every place where something may be added, in order

    def prepare(self, latents: Tensor, timestep: Tensor | int, text: Tensor | Conditioning) -> Any:
        """Everything before the first slot, without gradients while it is locked: nothing there learns from the loss.

        What comes out is for `finish` alone.
        """

    def finish(self, state: Any, residuals: Residuals | None = None) -> Tensor:
        """The prediction (B, C, h, w), with residuals added.

        Gradients reach the residuals, and of the weights only those that are unlocked.
        """

    def decoder_parameters(self) -> list[nn.Parameter]:
        """The weights that `finish` uses: what may be unlocked when a ControlNet has converged."""

    def control(self, config: Mapping[str, Any] | None = None) -> ControlFamily:
        """How a ControlNet on this backbone is made: a fresh one, or one that a config.json describes."""

    def make_copy(self, outputs: int) -> nn.Module:
        """A trainable copy of what a ControlNet with so many outputs copies; a `Copy`."""
