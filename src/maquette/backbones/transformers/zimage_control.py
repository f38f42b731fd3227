"""ControlNets on Z-Image, laid out like diffusers' `ZImageControlNetModel` and the files of VideoX-Fun."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maquette.backbones.protocol import ConditionSpace, ControlFamily, Paints, Slot
from maquette.backbones.residuals import Tokens
from maquette.backbones.transformers.packing import SIDE, PackedEncoder, patches
from maquette.backbones.wiring import Wiring, places
from maquette.backbones.zero import LinearOnMaps, zeroed
from maquette.formats.transformers.zimage import CONTROLNET, PATCH, Design, checked_control
from maquette.foundation.weights import Weights

_COPIED_CONFIG = (
    "all_patch_size", "all_f_patch_size", "dim", "n_refiner_layers", "n_heads", "n_kv_heads", "norm_eps", "qk_norm",
)  # fmt: skip


class PatchEncoder(PackedEncoder):
    """The condition's channels become tokens by a linear layer on patches, which does not start at zero."""

    def forward(self, condition: Tensor) -> Tensor:
        """Latents (B, C, h, w), or fewer channels than it takes and zeros behind, to (B, D, h / 2, w / 2)."""
        missing = self.conv_out.in_features // SIDE**2 - condition.shape[1]
        result: Tensor = self.conv_out(patches(F.pad(condition, (0, 0, 0, 0, 0, missing))))
        return result


class LinearOnTokens(LinearOnMaps):
    """Z for an image's tokens as a map, with those beside it or without."""

    def forward(self, tokens: Any) -> Any:
        """A map (B, D, h, w), or `Tokens`, to the same shape."""
        if not isinstance(tokens, Tokens):
            return super().forward(tokens)
        return Tokens(super().forward(tokens.map), F.linear(tokens.beside, self.weight, self.bias))


@dataclass(frozen=True)
class ZImageControl(ControlFamily):
    """One output per copied block, each for the base's block that it copies; the condition enters as latents."""

    outputs: tuple[Slot, ...]
    wiring: Wiring
    design: Design
    base: Mapping[str, Any]  # the configuration of its network
    early: int
    paints: Paints
    condition_space: ConditionSpace = "latents"
    enters_copy: bool = True

    @staticmethod
    def of(slots: tuple[Slot, ...], design: Design, base: Mapping[str, Any]) -> "ZImageControl":
        """Output j behind the refiner's goes to the slot of the block that it copies."""
        refiner = base["n_refiner_layers"]
        wired = (*range(design.early), *(refiner + place for place in design.places))
        outputs, paints = tuple(slots[slot] for slot in wired), design.channels > base["in_channels"]
        return ZImageControl(outputs, places(wired), design, base, design.early, "also" if paints else "never")

    def zero_layer(self, output: Slot) -> nn.Module:
        return zeroed(LinearOnTokens(output.channels, output.channels))

    def zero_layers(self) -> list[nn.Module]:
        """In version 2.0 the first ones serve the refiner too."""
        layers = super().zero_layers()
        if self.design.refiner == "control_layers":
            layers[: self.early] = layers[self.early : 2 * self.early]
        return layers

    def condition_encoder(self) -> nn.Module:
        return PatchEncoder(self.design.channels, self.outputs[0].channels)

    def painted(
        self,
        pictures: Tensor,
        blank: Tensor,
        kept: Tensor,
        encode: Callable[[Tensor], Tensor],
        maps: Tensor | None = None,
    ) -> Tensor:
        """A map's latents or zeros, what is kept, and pictures (B, 3, H, W) as latents, grey where painted.

        Of a row without a part to paint and without a map, it is one: its latents, and zeros. All are (B, 2 C + 1, h,
        w).
        """
        latents = encode(pictures.masked_fill(blank, 0.5))
        if maps is not None:
            return torch.cat([encode(maps), kept.to(latents), latents], dim=1)
        paints = blank.flatten(1).any(dim=1)[:, None, None, None]
        return torch.cat([latents * ~paints, (kept & paints).to(latents), latents * paints], dim=1)

    def published(self, name: str) -> str:
        part, _, rest = name.partition(".")
        if part == "zero_convs":
            number, _, which = rest.partition(".")
            behind = int(number) - self.early
            after = f"control_layers.{behind}" if behind >= 0 else f"{self.design.refiner}.{number}"
            return f"{after}.after_proj.{which}"
        if part == "condition_encoder":
            return rest.replace("conv_out.", f"control_all_x_embedder.{PATCH}.", 1)
        layer, _, which = rest.partition(".")
        block = {"before_proj": "control_layers", "refiner_before_proj": "control_noise_refiner"}.get(layer)
        return f"{block}.0.before_proj.{which}" if block else rest

    def config(self, encoder: nn.Module) -> dict[str, Any]:
        """The configuration of a diffusers `ZImageControlNetModel` for this base."""
        return {
            "_class_name": CONTROLNET,
            **{name: self.base[name] for name in _COPIED_CONFIG},
            "control_layers_places": list(self.design.places),
            "control_refiner_layers_places": list(range(self.early)),
            "control_in_dim": self.design.channels,
            "add_control_noise_refiner": self.design.refiner,
        }

    def read(self, config: Mapping[str, Any], weights: Weights, base: Weights) -> Weights:
        """The tensors as they are, without those that version 2.0 holds and does not use.

        Raises `MaquetteError` if they are no ControlNet of this family, or made for a base of other widths.
        """
        return checked_control(weights, self.base, self.design)
