"""PITI (Wang et al. 2022, arXiv:2205.12952): a condition encoder into the base's text space; there is no text.

First the encoder is trained against the locked base, so that its tokens mean what the base knows already; then encoder
and base together. Guidance is normalised: the guided prediction keeps mean and deviation of the conditional one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from maquette.baselines.batches import Batch
from maquette.baselines.diffusion import in_batches, noisy, plain_unet, sample
from maquette.baselines.protocol import check_request
from maquette.baselines.trained import Stage, Trained, mixed
from maquette.foundation.declared import Declared, setting

PATCH = 16  # pixels a side of what one token covers
HEAD = 48  # numbers


@dataclass(frozen=True)
class PITISettings(Declared):
    """Sizes, stages and guidance. Raises `MaquetteError` for values out of range."""

    heads: int = setting(4, f"of the encoder's attention, {HEAD} numbers wide each", low=1)
    layers: int = setting(4, "of the encoder", low=1)
    locked: float = setting(0.5, "share of the steps in which the base is locked", low=0.0, high=1.0)
    drop: float = setting(0.1, "share of the maps that are dropped in training, for guidance", low=0.0, high=1.0)
    guidance: float = setting(1.3, "scale of the normalised guidance; 1 for none", low=0.0, high=50.0)


class ConditionEncoder(nn.Module):
    """A transformer from the patches of a condition map to tokens as a text encoder makes them."""

    def __init__(self, side: int, heads: int, layers: int, text: int) -> None:
        """Maps of `side` pixels to tokens of the width `text`."""
        super().__init__()
        width = HEAD * heads
        self.patches = nn.Sequential(
            nn.Conv2d(3, width // 2, 4, stride=4),
            nn.SiLU(),
            nn.Conv2d(width // 2, width, PATCH // 4, stride=PATCH // 4),
        )
        self.places = nn.Parameter(0.02 * torch.randn(1, (side // PATCH) ** 2, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, text)

    def forward(self, maps: Tensor) -> Tensor:
        """Tokens (B, L, D) of maps (B, 3, H, W) in [0, 1]; L = (H / 16)²."""
        tokens = self.patches(maps).flatten(2).transpose(1, 2) + self.places
        encoded: Tensor = self.out(self.norm(self.layers(tokens)))
        return encoded


class PITI(Trained):
    """See the file."""

    name: ClassVar[str] = "piti"
    takes_text: ClassVar[bool] = False
    conditions: ClassVar[tuple[str, ...] | None] = None
    Settings: ClassVar[type[Declared]] = PITISettings

    def build(self) -> nn.ModuleDict:
        """The encoder, and a copy of the base's U-Net, so that the base itself stays as it is."""
        backbone, settings = plain_unet(self.base, self.name), self.settings
        encoder = ConditionEncoder(self.base.size, settings.heads, settings.layers, backbone.text.width)
        return nn.ModuleDict({"encoder": encoder, "unet": backbone.make_whole_copy()})

    def stages(self) -> tuple[Stage, ...]:
        """The encoder against the locked base, then both."""
        locked = self.settings.locked
        return (
            Stage("encoder", locked, ("encoder",), self._loss, 1e-3),
            Stage("both", 1 - locked, ("encoder", "unet"), self._loss, 3e-4),
        )

    def _loss(self, batch: Batch, source: torch.Generator) -> Tensor:
        """Scalar: the base's own loss, with the map's tokens in place of the text's."""
        latents, times, target = noisy(self.base, batch.posteriors(), source)
        kept = torch.rand((len(latents), 1, 1, 1), generator=source).to(latents.device) >= self.settings.drop
        with mixed(latents.device):
            prediction = self._predict(latents, times, self.networks["encoder"](batch.maps * kept))
        return F.mse_loss(prediction.float(), target)

    def _predict(self, latents: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        """The prediction for latents, both (B, C, h, w), at times (B,), with tokens (B, L, D)."""
        prediction: Tensor = self.networks["unet"](latents, times, tokens)
        return prediction

    def pictures(self, prompts: Sequence[str], maps: Sequence[Image.Image], seeds: Sequence[int]) -> list[Image.Image]:
        """See `Method`."""
        check_request(self, prompts, maps, seeds, self.base.size)
        return in_batches(maps, seeds, self._pictures)

    @torch.no_grad()
    def _pictures(self, maps: Tensor, seeds: Sequence[int], rows: slice) -> list[Image.Image]:
        """Of maps (B, 3, H, W)."""
        maps = maps.to(self.base.device)
        tokens = self.networks["encoder"](torch.cat([torch.zeros_like(maps), maps]))

        def predict(x: Tensor, times: Tensor) -> Tensor:
            """The guided prediction for x, both (B, C, h, w), at times (B,)."""
            dropped, conditional = self._predict(torch.cat([x, x]), times.repeat(2), tokens).chunk(2)
            return normalised(dropped, conditional, self.settings.guidance)

        return self.base.decode_latents(sample(self.base, seeds, predict))


def normalised(dropped: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance with the conditional prediction's mean and deviation, picture by picture.

    Args:
        dropped, conditional: predictions (B, C, h, w) without and with the condition.
    """
    guided, axes = dropped + scale * (conditional - dropped), (1, 2, 3)
    centred = guided - guided.mean(axes, keepdim=True)
    deviations = conditional.std(axes, keepdim=True), centred.std(axes, keepdim=True).clamp_min(1e-8)
    return centred * (deviations[0] / deviations[1]) + conditional.mean(axes, keepdim=True)
