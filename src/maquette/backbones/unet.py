"""Stable Diffusion's U-Net: 1.x, 2.x, XL and any `UNet2DConditionModel` with one of their topologies."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from maquette.backbones import wiring
from maquette.backbones.protocol import Slot
from maquette.backbones.residuals import Residuals
from maquette.backbones.unet_control import UNetControl
from maquette.backbones.unet_union import UnionControl, UnionEncoder
from maquette.errors import MaquetteError
from maquette.formats import union
from maquette.foundation.weights import Weights
from maquette.text.conditioning import Conditioning, TextInputs


@dataclass(frozen=True)
class UNetState:
    """What the first half of a U-Net passes to the second."""

    features: tuple[Tensor, ...]  # one per slot, (B, C, h, w)
    time: Tensor  # (B, T) embedded timestep
    text: Tensor  # (B, L, D)


class UNetEncoder(nn.Module):
    """Everything up to and including the middle block; used for both the locked half and its copies.

    Modules are named as in diffusers, so a copy's weights have the same names as in published ControlNets.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.time_proj = unet.time_proj
        self.time_embedding = unet.time_embedding
        self.conv_in = unet.conv_in
        self.down_blocks = unet.down_blocks
        self.mid_block = unet.mid_block
        if unet.config.addition_embed_type == "text_time":
            self.add_time_proj = unet.add_time_proj
            self.add_embedding = unet.add_embedding

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor | Conditioning,
        control_features: Tensor | None = None,
        outputs: int | None = None,
    ) -> tuple[Tensor, ...]:
        """The features at the first `outputs` slots, or all of them if None: (B, C, h, w) each."""
        return self.run(latents, timestep, text, control_features, outputs).features

    def run(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor | Conditioning,
        control_features: Tensor | None = None,
        outputs: int | None = None,
        added_time: Tensor | None = None,
    ) -> UNetState:
        """As `forward`, together with what the second half needs; latents (B, C, h, w).

        Args:
            added_time: (B or 1, T), added to the embedded timestep.
        """
        text = Conditioning.of(text)
        states = text.hidden_states
        time = self.embed_time(latents, timestep, text)
        if added_time is not None:
            time = time + added_time
        x = self.conv_in(latents)
        if control_features is not None:
            x = x + control_features
        features = [x]
        for block in self.down_blocks:
            if outputs is not None and len(features) >= outputs:
                return UNetState(tuple(features[:outputs]), time, states)
            x, outputs_of_block = _run(block, x, time, states)
            features += outputs_of_block
        if outputs is None or len(features) < outputs:
            features.append(_run(self.mid_block, x, time, states))
        return UNetState(tuple(features[:outputs]), time, states)

    def embed_time(self, latents: Tensor, timestep: Tensor | int, text: Conditioning) -> Tensor:
        """(B, T); for XL with the pooled text and the size and crop ids added."""
        steps = torch.as_tensor(timestep, device=latents.device).expand(len(latents))
        time: Tensor = self.time_embedding(self.time_proj(steps).to(latents.dtype))
        if not hasattr(self, "add_embedding"):
            return time
        assert text.pooled is not None, "this U-Net takes pooled text"
        assert text.time_ids is not None, "this U-Net takes size and crop ids"
        ids = self.add_time_proj(text.time_ids.flatten()).reshape(len(text.pooled), -1)
        return time + cast(Tensor, self.add_embedding(torch.cat([text.pooled, ids.to(text.pooled.dtype)], dim=-1)))


def _run(block: nn.Module, x: Tensor, time: Tensor, text: Tensor, **more: Any) -> Any:
    """Run a block on x (B, C, h, w) and time (B, T); text (B, L, D) goes only to blocks with cross-attention."""
    if getattr(block, "has_cross_attention", False):
        more["encoder_hidden_states"] = text
    return block(hidden_states=x, temb=time, **more)


class WholeUNet(UNetEncoder):
    """All of a U-Net, as a copy that predicts by itself."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__(unet)
        self.up_blocks = unet.up_blocks
        self.conv_norm_out, self.conv_act, self.conv_out = unet.conv_norm_out, unet.conv_act, unet.conv_out

    def forward(  # type: ignore[override]
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor | Conditioning,
        control_features: Tensor | None = None,
    ) -> Tensor:
        """The prediction for latents, both (B, C, h, w).

        Args:
            control_features: (B or 1, C, h, w), added to the first layer's output.
        """
        state = self.run(latents, timestep, text, control_features)
        return decoded(self, state, state.features)


def decoded(unet: Any, state: UNetState, features: Sequence[Tensor]) -> Tensor:
    """The second half of a U-Net, or of a whole copy: the prediction (B, C, h, w) from features, one per slot."""
    features = list(features)
    x = features.pop()
    for block in unet.up_blocks:
        count = len(block.resnets)
        skips, features = tuple(features[-count:]), features[:-count]
        size = features[-1].shape[2:] if features else None  # restores odd sizes
        x = _run(block, x, state.time, state.text, res_hidden_states_tuple=skips, upsample_size=size)
    if unet.conv_norm_out is not None:
        x = unet.conv_act(unet.conv_norm_out(x))
    return cast(Tensor, unet.conv_out(x))


class UNetBackbone:
    """A U-Net as a `Backbone`, described by its own configuration.

    Shapes: latents and predictions (B, C, h, w), timestep (B,) or an int, text (B, L, D).

    Args:
        unet: gets locked: its parameters stop requiring gradients.
        downscale: pixels per latent cell, along a side, of the matching autoencoder.
    """

    family = "stable-diffusion"

    def __init__(self, unet: UNet2DConditionModel, downscale: int = 8) -> None:
        _refuse_other_conditioning(unet)
        self.unet = self.network = unet.requires_grad_(False)
        self.encoder = UNetEncoder(unet)
        self.downscale = downscale
        self.latent_channels: int = unet.config.in_channels
        self.text = TextInputs(_text_width(unet), _pooled_width(unet))
        self.slots = _slots(unet)

    def control(self, config: Mapping[str, Any] | None = None) -> UNetControl:
        """Always one output per slot, whatever the configuration; several kinds of condition if it is a union's."""
        if config and config.get("_class_name") == union.CLASS:
            return UnionControl.of(self.slots, dict(self.unet.config), config)
        return UNetControl(self.slots, wiring.identity(len(self.slots)), dict(self.unet.config))

    def told_config(self, weights: Weights) -> dict[str, Any]:
        return {}

    def make_copy(self, outputs: int, config: Mapping[str, Any] | None = None) -> UNetEncoder | UnionEncoder:
        assert outputs == len(self.slots), "a U-Net is copied up to its middle block"
        encoder, control = copy.deepcopy(self.encoder).requires_grad_(True), self.control(config)
        return UnionEncoder(encoder, control) if isinstance(control, UnionControl) else encoder

    def make_whole_copy(self) -> WholeUNet:
        """For a ControlNet of variant "channels"; other families have none."""
        return WholeUNet(copy.deepcopy(self.unet)).requires_grad_(True)

    def decoder_parameters(self) -> list[nn.Parameter]:
        in_encoder = {id(parameter) for parameter in self.encoder.parameters()}
        return [parameter for parameter in self.unet.parameters() if id(parameter) not in in_encoder]

    def prepare(self, latents: Tensor, timestep: Tensor | int, text: Tensor | Conditioning) -> UNetState:
        trained = any(parameter.requires_grad for parameter in self.encoder.parameters())
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            return self.encoder.run(latents, timestep, text)

    def resume(
        self, state: UNetState, latents: Tensor, timestep: Tensor | int, text: Tensor | Conditioning
    ) -> UNetState:
        """What `prepare` returns, but with the features of an earlier state: of its last rows, where it has more."""
        text = Conditioning.of(text)
        features = tuple(feature[-len(latents) :] for feature in state.features)
        return UNetState(features, self.encoder.embed_time(latents, timestep, text), text.hidden_states)

    def finish(self, state: UNetState, residuals: Residuals | None = None) -> Tensor:
        if residuals is None:
            return decoded(self.unet, state, state.features)
        return residuals.blended(decoded(self.unet, state, residuals.add_to(state.features)))


def _slots(unet: UNet2DConditionModel) -> tuple[Slot, ...]:
    slots, downscale = [Slot("conv_in", unet.config.block_out_channels[0], 1)], 1
    for level, (block, channels) in enumerate(zip(unet.down_blocks, unet.config.block_out_channels, strict=True)):
        for number in range(len(block.resnets)):
            slots.append(Slot(f"down_blocks.{level}.{number}", channels, downscale))
        if block.downsamplers is not None:
            downscale *= 2
            slots.append(Slot(f"down_blocks.{level}.downsampler", channels, downscale))
    return (*slots, Slot("mid_block", unet.config.block_out_channels[-1], downscale))


def _text_width(unet: UNet2DConditionModel) -> int:
    width = unet.config.cross_attention_dim
    return int(width if isinstance(width, int) else width[0])


def _pooled_width(unet: UNet2DConditionModel) -> int | None:
    if unet.config.addition_embed_type != "text_time":
        return None
    return int(unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim)


def _refuse_other_conditioning(unet: UNet2DConditionModel) -> None:
    """Refuse U-Nets with inputs that the two halves would silently ignore."""
    extra = {
        "class_embed_type": None,
        "num_class_embeds": None,
        "encoder_hid_dim_type": None,
        "time_cond_proj_dim": None,
        "time_embedding_act_fn": None,
        "center_input_sample": False,
    }
    found = {name: unet.config.get(name) for name, plain in extra.items() if unet.config.get(name) != plain}
    if unet.config.addition_embed_type not in (None, "text_time"):
        found["addition_embed_type"] = unet.config.addition_embed_type
    if found:
        settings = ", ".join(f"{name} = {value!r}" for name, value in found.items())
        raise MaquetteError(
            f"This U-Net takes more than latents, a timestep and text ({settings}); "
            "give one of Stable Diffusion 1.x, 2.x or XL."
        )
