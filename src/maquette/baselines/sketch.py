"""Sketch-Guided Diffusion (Voynov et al. 2022, arXiv:2211.13752): edges steer the sampling of the locked base.

A network of its own for each latent cell reads the U-Net's features there, at nine layers, and predicts the latents of
the edge map. During the first share of the steps the gradient of its error moves the latents towards the given edges.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from PIL import Image
from torch import Tensor, nn

from maquette.backbones.unet import UNetBackbone, decoded
from maquette.base import Base
from maquette.baselines.batches import Batch
from maquette.baselines.diffusion import in_batches, noisy, plain_unet
from maquette.baselines.protocol import EDGES, check_request
from maquette.baselines.steering import Steered
from maquette.baselines.trained import Stage, Trained
from maquette.foundation.declared import Declared, setting
from maquette.noise.process import Sampler
from maquette.sampling.generate import generate
from maquette.text.conditioning import Conditioning

WIDTHS = (512, 256, 128, 64)  # of the layers between
TIME = 32  # numbers that describe the time


@dataclass(frozen=True)
class SketchSettings(Declared):
    """How strongly and how long edges steer. Raises `MaquetteError` for values out of range."""

    strength: float = setting(1.6, "β: a step of the guidance as a share of the sampler's step", low=0.0, high=100.0)
    until: float = setting(0.5, "share of the steps, the first ones, that are steered", low=0.0, high=1.0)


class EdgePredictor(nn.Module):
    """The same small network at each latent cell: 1×1 convolutions."""

    def __init__(self, features: int, latents: int) -> None:
        super().__init__()
        widths = (features + TIME, *WIDTHS)
        layers = [layer for a, b in pairwise(widths) for layer in (nn.Conv2d(a, b, 1), nn.ReLU(), nn.BatchNorm2d(b))]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], latents, 1))

    def forward(self, features: Tensor, times: Tensor) -> Tensor:
        """Latents (B, C, h, w) of the edge map from features (B, F, h, w) at times (B,)."""
        time = get_timestep_embedding(times, TIME)[:, :, None, None].expand(-1, -1, *features.shape[2:])
        edges: Tensor = self.layers(torch.cat([features, time], dim=1))
        return edges


class SketchGuided(Trained):
    """See the file."""

    name: ClassVar[str] = "sketch-guided"
    takes_text: ClassVar[bool] = True
    conditions: ClassVar[tuple[str, ...] | None] = EDGES
    Settings: ClassVar[type[Declared]] = SketchSettings

    def build(self) -> nn.ModuleDict:
        """The predictor alone; the base stays locked."""
        config = plain_unet(self.base, self.name).unet.config
        channels = 2 * sum(config.block_out_channels) + config.block_out_channels[-1]
        return nn.ModuleDict({"predictor": EdgePredictor(channels, self.base.backbone.latent_channels)})

    def stages(self) -> tuple[Stage, ...]:
        """One, for the predictor."""
        return (Stage("predictor", 1.0, ("predictor",), self._loss, 1e-3),)

    def _loss(self, batch: Batch, source: torch.Generator) -> Tensor:
        """Scalar: the predictor's error on the edge maps' latents."""
        latents, times, _ = noisy(self.base, batch.posteriors(), source)
        with torch.no_grad():
            seen = features(self.base, latents, times, self.base.encode_text(batch.texts))
        return F.mse_loss(self.networks["predictor"](seen, times), self.base.encode_maps(batch.maps).float())

    def error(self, latents: Tensor, time: Tensor, text: Conditioning, edges: Tensor) -> Tensor:
        """How far the edges seen in noisy latents are from those given, (B,), summed.

        Args:
            latents, edges: (B, C, h, w), scaled for the backbone.
            time: scalar, of the latents.
        """
        times = time.expand(len(latents))
        found = self.networks["predictor"](features(self.base, latents, times, text), times)
        return (found - edges).square().sum(dim=(1, 2, 3))

    def pictures(self, prompts: Sequence[str], maps: Sequence[Image.Image], seeds: Sequence[int]) -> list[Image.Image]:
        """See `Method`."""
        check_request(self, prompts, maps, seeds, self.base.size)

        def make(maps: Tensor, seeds: Sequence[int], rows: slice) -> list[Image.Image]:
            """Of maps (B, 3, H, W)."""
            text, edges = self.base.encode_text(list(prompts[rows])), self.base.encode_maps(maps).float()

            def sampler(steps: int, tokens: int, strength: float, device: torch.device) -> Sampler:
                plain = self.base.noise.sampler(self.base.defaults.sampler, steps, tokens, strength, device)
                return Steered(
                    plain,
                    lambda x, time: self.error(plain.scale(x, time), time, text, edges),
                    self.settings.strength,
                    self.settings.until,
                )

            return generate(
                self.base, prompts[rows], sampler=sampler, seed=seeds[0], batch_size=len(seeds), record=False
            )

        return in_batches(maps, seeds, make)


def features(base: Base, latents: Tensor, times: Tensor, text: Conditioning) -> Tensor:
    """What a U-Net's down, middle and up blocks give, resized to the latents: (B, F, h, w) for latents (B, C, h, w).

    Args:
        times: (B,).
    """
    backbone = base.backbone
    assert isinstance(backbone, UNetBackbone), "checked when the method is made"
    with base.on_device(backbone.network), _outputs(backbone.unet) as outputs:
        state = backbone.encoder.run(latents.to(base.dtype), times, text)
        decoded(backbone.unet, state, state.features)
    resized = [F.interpolate(one.float(), size=latents.shape[2:], mode="bilinear") for one in outputs]
    return torch.cat(resized, dim=1)


@contextmanager
def _outputs(unet: Any) -> Iterator[list[Tensor]]:
    """A list that the blocks' outputs (B, F, h, w) are added to as they are computed."""
    outputs: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Any) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)

    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    handles = [block.register_forward_hook(keep) for block in blocks]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
