"""A ControlNet: a trainable copy of part of a backbone between zero layers, and a condition encoder."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from maquette.backbones.protocol import Backbone, Slot, Typed
from maquette.backbones.residuals import Own, Residuals
from maquette.backbones.wiring import Wiring, last_alone, used
from maquette.controlnet.choices import BY_ITSELF, Connect, EncoderName, Variant
from maquette.controlnet.contract import Contract, ours
from maquette.controlnet.parts import initialise, make_condition_encoder, make_copy
from maquette.controlnet.save import save
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.registry import unknown
from maquette.text.conditioning import Conditioning, TextInputs


@dataclass(frozen=True)
class ControlNetConfig:
    """The design of a ControlNet.

    Raises `MaquetteError` for an unknown encoder, connect or variant.
    """

    encoder: EncoderName = "release"  # layout of the condition encoder: as published, or as in the paper
    connect: Connect = "all"  # which residuals are used: all, or only the middle block's (small-scale training)
    variant: Variant = "zero"  # the others are for ablations (`controlnet.choices`)

    def __post_init__(self) -> None:
        for name, value, known in (
            ("encoder", self.encoder, get_args(EncoderName)),
            ("connect", self.connect, get_args(Connect)),
            ("variant", self.variant, get_args(Variant)),
        ):
            if value not in known:
                raise MaquetteError(unknown(f"ControlNet {name}", value, list(known)))

    @staticmethod
    def read(config: Mapping[str, Any]) -> "ControlNetConfig":
        """From our part of config.json; up to version 0.1 the variant was called kind."""
        stored = ours(config)
        if "kind" in stored:
            stored = {"variant": stored["kind"], **stored}
        known = {field.name for field in fields(ControlNetConfig)}
        return ControlNetConfig(**{key: value for key, value in stored.items() if key in known})


class HasBackbone(Protocol):
    @property
    def backbone(self) -> Backbone: ...


@runtime_checkable
class Remembers(Protocol):
    """A copy that reads what it keeps of a condition, instead of its features (variant "context")."""

    channels: int  # of what is kept

    def keep(self, latents: Tensor, embedded: Tensor) -> Tensor:
        """(B, channels, h / p, w / p) of a condition's latents (B, C, h, w), with its features (B, D, h / p, w / p)."""


class ControlNet(nn.Module):
    """A ControlNet for any backbone: it depends on the backbone's slots, never on its class.

    Shapes: latents (B, C, h, w), timestep an int or (B,), text (B, L, D), condition (B, 3, H, W) in [0, 1], RGB.
    """

    def __init__(
        self, backbone: Backbone, net_config: ControlNetConfig, config: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.name: str | None = None  # as it was loaded: a name, folder or file
        self.config = net_config
        self.contract = Contract()
        self.control = control = backbone.control(config)
        self.slots: tuple[Slot, ...] = backbone.slots
        self.text: TextInputs = backbone.text
        self.downscale: int = backbone.downscale
        self.latent_channels: int = backbone.latent_channels
        variant = net_config.variant
        self.trainable_copy = make_copy(backbone, variant, control.outputs, config)
        own = None if self.by_itself else control.condition_encoder()
        self.condition_encoder = own or make_condition_encoder(backbone, variant, net_config.encoder, control)
        self.zero_convs = nn.ModuleList(() if self.by_itself else control.zero_layers())
        self.early = control.early if variant != "lite" else 0

    @classmethod
    def attach(
        cls,
        base: HasBackbone,
        encoder: EncoderName = "release",
        connect: Connect = "all",
        variant: Variant = "zero",
        seed: int = 0,
        blocks: int | None = None,
    ) -> "ControlNet":
        """A new ControlNet on a base, in its dtype and on its device; the base's output stays bitwise the same.

        Only the blocks that train are copied: with variant="channels" all, with variant="context" none. `seed`
        determines the Gaussian weights of the condition encoder, and those of low rank. With variant="gaussian" the
        output does change: that is what the ablation shows.

        Args:
            blocks: of a transformer, the first ones, that are copied; by default half of them.

        Raises `MaquetteError` for more blocks than take residuals.
        """
        most = len(base.backbone.slots)
        if blocks is not None and not 1 <= blocks <= most:
            raise MaquetteError(f"Of this base 1 to {most} blocks can be copied, not {blocks}.")
        sizes = None if blocks is None else {"num_layers": blocks}
        net = cls.build(base.backbone, ControlNetConfig(encoder, connect, variant), sizes)
        for message in _without_effect(net, blocks):
            warnings.warn(message, MaquetteWarning, stacklevel=2)
        initialise(net, torch.Generator().manual_seed(seed))
        return net

    @classmethod
    def build(
        cls, backbone: Backbone, net_config: ControlNetConfig, config: Mapping[str, Any] | None = None
    ) -> "ControlNet":
        """A ControlNet without meaningful weights yet, in the backbone's dtype and on its device.

        Args:
            config: its config.json, when one is being loaded.
        """
        like = next(backbone.network.parameters())
        return cls(backbone, net_config, config).to(like.device, like.dtype)

    @property
    def by_itself(self) -> bool:
        """Whether it predicts by itself, in place of the base, instead of adding residuals to it."""
        return self.config.variant in BY_ITSELF

    @property
    def wiring(self) -> Wiring:
        """Which of its outputs goes to which slots."""
        return self.control.wiring if self.config.connect == "all" else last_alone(self.control.wiring)

    @property
    def device(self) -> torch.device:
        return next(self.condition_encoder.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.condition_encoder.parameters()).dtype

    def condition_input(self, maps: Tensor, to_latents: Callable[[Tensor, bool], Tensor]) -> Tensor:
        """The input of `encode` for condition maps (B, 3, H, W) in [0, 1]: the maps, or their latents (B, C, h, w).

        A map is −1 where a net that paints in shall paint; one that may follow a map meanwhile takes (B, 6, H, W), as
        `to_paint` makes it. Of a latent cell the first pixel counts, as published.

        Args:
            to_latents: the base's `encode_maps`, for families that take latents.

        Raises `MaquetteError` for −1 in the maps of any other net that takes latents.
        """
        if self.control.condition_space == "pixels":
            return maps

        def encode(pictures: Tensor) -> Tensor:
            """(B, 3, H, W) to (B, C, h, w)."""
            return to_latents(self.contract.as_encoded(self._ordered(pictures)), self.control.shifts_latents)

        maps, followed = (maps[:, 3:], maps[:, :3]) if maps.shape[1] == 6 else (maps, None)
        blank = (maps < 0).all(dim=1, keepdim=True)
        if self.control.paints == "never" and bool(blank.any()):
            raise MaquetteError(
                "A condition that is −1 somewhere is one with a part to be painted in, and this ControlNet follows "
                "conditions in [0, 1]; give it one of these, or use a ControlNet that paints in."
            )
        is_map = self.control.paints == "also" and followed is None and not bool(blank.any())
        if self.control.paints == "never" or is_map:
            return encode(maps.clamp(min=0))
        kept = ~blank[..., :: self.downscale, :: self.downscale]
        return self.control.painted(maps.clamp(min=0), blank, kept, encode, followed)

    def encode(self, condition: Tensor) -> Tensor:
        """E(c_i): condition features (B, C, h, w), computed once per generation, not once per step."""
        ordered = self._ordered(condition) if self.control.condition_space == "pixels" else condition
        given = ordered.to(self.device, self.dtype)
        features: Tensor = self.condition_encoder(given)
        if isinstance(self.trainable_copy, Remembers):
            features = self.trainable_copy.keep(given, features)
        return features

    def typed(self, features: Tensor, type: str | None, weight: float = 1.0) -> Typed:
        """Condition features (B or 1, C, h, w) from `encode` with the name of their kind, for a union.

        Args:
            weight: factor on the condition where the union is given several; alone, scale its residuals instead.

        Raises `MaquetteError` for an unknown or missing kind.
        """
        return Typed(features, self.contract.type_number(type), weight)

    def _ordered(self, maps: Tensor) -> Tensor:
        """Condition maps (B, 3, H, W) with channels in the order used in training."""
        if maps.shape[-1] % self.downscale or maps.shape[-2] % self.downscale:
            raise MaquetteError(
                f"A condition map's sides are multiples of {self.downscale} pixels, not "
                f"{maps.shape[-1]}×{maps.shape[-2]}; resize or crop it."
            )
        return maps if self.contract.channel_order == "rgb" else maps.flip(1)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        text: Tensor | Conditioning,
        features: Tensor | Sequence[Typed],
        weighted: Callable[[Residuals], Residuals] | None = None,
    ) -> Residuals:
        """What to add to each slot of the backbone; with added channels or in context, what to predict in its place.

        Args:
            features: (B or 1, C, h, w), from `encode`; of a union a list of them, from `typed`.
            weighted: how its residuals will be weighted, for one that has to know (`ControlFamily.early`).

        Raises `MaquetteError` for a condition map in place of its features, and for a union's without their kinds.
        """
        if self.control.types and isinstance(features, Tensor):
            self.contract.type_number(None)
        for one in [features] if isinstance(features, Tensor) else features:
            self._check_features(latents, one.features if isinstance(one, Typed) else one)
        if self.by_itself:
            own = Own(self.trainable_copy(latents, timestep, text, features))
            return Residuals([None] * len(self.slots), [own])
        given: tuple[Any, ...] = (latents, timestep, text, features, used(self.wiring))
        if self.early:
            as_added = weighted or (lambda residuals: residuals)
            given = (*given, lambda first: as_added(self._residuals(first)))
        return self._residuals(self.trainable_copy(*given))

    def _residuals(self, copied: Sequence[Any]) -> Residuals:
        """What the first outputs of the copy, (B, C, h, w) each or `Tokens`, or all of them, add to the slots."""
        wiring = self.wiring
        outputs = [
            zero_conv(feature) if places else None
            for zero_conv, feature, places in zip(self.zero_convs, copied, wiring, strict=False)
        ]
        residuals = Residuals.wired(outputs, wiring, len(self.slots))
        return residuals.pooled() if self.contract.pooled else residuals

    def _check_features(self, latents: Tensor, features: Tensor) -> None:
        """Raises `MaquetteError` unless features have the shape, but for the batch, of what `encode` returns."""
        first, copied = self.control.outputs[0], self.trainable_copy
        channels = copied.channels if isinstance(copied, Remembers) else first.channels
        expected = (channels, *(side // first.downscale for side in latents.shape[2:]))
        if features.ndim != 4 or features.shape[1:] != expected:
            raise MaquetteError(
                f"For these latents a ControlNet takes features (1 or {len(latents)}, "
                f"{', '.join(map(str, expected))}), not {tuple(features.shape)}; encode the map first: net.encode(map)."
            )

    def published(self) -> dict[str, Tensor]:
        """Its weights under their published names; shared, not copied."""
        return {self.control.published(name): value for name, value in self.state_dict().items()}

    def fits(self, backbone: Backbone) -> bool:
        """Whether its latents, text and residuals match a backbone's."""
        return (
            self.latent_channels == backbone.latent_channels
            and self.downscale == backbone.downscale
            and self.text == backbone.text
            and _shape(self.slots) == _shape(backbone.slots)
        )

    def runs_another(self, backbone: Backbone) -> bool:
        """Whether it runs parts of a base itself, and that is another than this."""
        runs = getattr(self.trainable_copy, "runs", None)
        return runs is not None and runs.network is not backbone.network

    def save(self, folder: str | Path) -> None:
        """Write a diffusers folder, config.json and diffusion_pytorch_model.safetensors, in the net's dtype.

        For a lite ControlNet, control in context or the paper's condition encoder diffusers has no class, and
        config.json names none; added channels are written as the whole network that they are.
        """
        save(self, Path(folder))

    def push(self, name: str, run: str | Path | None = None, *, private: bool = False, token: str | None = None) -> str:
        """Upload it to the Hub as org/name with a model card; returns the address of its page.

        Args:
            run: the folder of its training run, whose settings, curve and last grid go into the card.

        Raises `MaquetteError` if the Hub cannot be reached or refuses.
        """
        from maquette.controlnet.publish import push

        return push(self, name, Path(run) if run is not None else None, private, token)


def _shape(slots: Sequence[Slot]) -> list[tuple[int, int]]:
    return [(slot.channels, slot.downscale) for slot in slots]


def _without_effect(net: ControlNet, blocks: int | None) -> Iterator[str]:
    """What of a new net's design changes nothing."""
    encoder, connect, variant = net.config.encoder, net.config.connect, net.config.variant
    if blocks is not None and variant == "channels":
        yield "blocks has no effect: with added channels the whole base is copied."
    elif blocks is not None and variant == "context":
        yield "blocks has no effect: in context nothing is copied, and every block reads the condition."
    elif blocks is not None and len(net.control.outputs) - net.control.early != blocks:
        yield "blocks has no effect: a ControlNet on this base always copies it up to its middle."
    if encoder != "release" and net.control.condition_space == "latents":
        yield f"encoder={encoder!r} has no effect: a ControlNet on this base takes its condition as latents."
    if encoder != "release" and variant == "channels":
        yield f"encoder={encoder!r} has no effect: added channels take the map as it is, at the size of the latents."
    if connect != "all" and net.by_itself:
        kind = "added channels have" if variant == "channels" else "control in context has"
        yield f"connect={connect!r} has no effect: {kind} no residuals."
