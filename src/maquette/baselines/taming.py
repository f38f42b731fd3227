"""Taming Transformers (Esser et al. 2021, arXiv:2012.09841): pictures as codes, which a transformer writes one by one.

Two vector-quantised autoencoders, of class maps and of pictures, are trained first; then a transformer, on the map's
codes followed by the picture's. There is no text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from maquette.baselines.batches import Batch
from maquette.baselines.classes import class_numbers, count_of, one_hot
from maquette.baselines.codes import Codes
from maquette.baselines.diffusion import in_batches
from maquette.baselines.protocol import CLASS_MAPS, check_request
from maquette.baselines.trained import Stage, Trained, mixed
from maquette.foundation.declared import Declared, setting
from maquette.foundation.pixels import from_signed
from maquette.foundation.seeds import generators

MAP_CELL, PICTURE_CELL = 16, 8  # pixels a side that one code covers
HEAD = 32  # numbers


@dataclass(frozen=True)
class TamingSettings(Declared):
    """Sizes of the networks, and how codes are drawn. Raises `MaquetteError` for values out of range."""

    channels: int = setting(16, "of the autoencoders' first level; deeper ones have 2, 4 and 8 times as many", low=4)
    codes: int = setting(512, "of the codebook of pictures, and of that of class maps", low=2)
    heads: int = setting(6, f"of the transformer's attention, {HEAD} numbers wide each", low=1)
    layers: int = setting(6, "of the transformer", low=1)
    top: int = setting(100, "most likely codes among which each is drawn", low=1)
    palette: str = setting("diorama", "of the class maps")


class Taming(Trained):
    """See the file."""

    name: ClassVar[str] = "taming"
    takes_text: ClassVar[bool] = False
    conditions: ClassVar[tuple[str, ...] | None] = CLASS_MAPS
    Settings: ClassVar[type[Declared]] = TamingSettings

    def build(self) -> nn.ModuleDict:
        """Codes of class maps and of pictures, and the transformer."""
        settings = self.settings
        widths = tuple(settings.channels * factor for factor in (1, 2, 4, 8))
        transformer = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=2 * settings.codes,
                n_positions=self._map_length + (self.base.size // PICTURE_CELL) ** 2,
                n_embd=HEAD * settings.heads,
                n_layer=settings.layers,
                n_head=settings.heads,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                resid_pdrop=0.0,
                bos_token_id=None,
                eos_token_id=None,
                attn_implementation="eager",  # the backward pass of fused attention is slow on a CPU
            )
        )
        return nn.ModuleDict(
            {
                "maps": Codes(count_of(settings.palette), (*widths[:3], *widths[2:]), settings.codes, 16),
                "pictures": Codes(3, widths, settings.codes, 16),
                "transformer": transformer,
            }
        )

    @property
    def _map_length(self) -> int:
        """Codes of a class map."""
        return (self.base.size // MAP_CELL) ** 2

    def stages(self) -> tuple[Stage, ...]:
        """Both autoencoders, then the transformer on their codes."""
        return (
            Stage("maps", 0.1, ("maps",), self._map_loss, 1e-3),
            Stage("pictures", 0.4, ("pictures",), self._picture_loss, 1e-3),
            Stage("transformer", 0.5, ("transformer",), self._likelihood_loss, 1e-3),
        )

    def _map_loss(self, batch: Batch, source: torch.Generator) -> Tensor:
        """Scalar: cross-entropy of the classes, and the codebook's loss."""
        result, of_codes = self._through("maps", one_hot(batch.maps, self.settings.palette), batch.step, source)
        return F.cross_entropy(result, class_numbers(batch.maps, self.settings.palette)) + of_codes

    def _picture_loss(self, batch: Batch, source: torch.Generator) -> Tensor:
        """Scalar: absolute and squared errors of pixels and absolute ones of their differences, and the codebook's."""
        result, of_codes = self._through("pictures", batch.images, batch.step, source)
        error = result - batch.images
        edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        return error.abs().mean() + error.square().mean() + edges + of_codes

    def _through(self, name: str, images: Tensor, step: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images (B, channels, H, W) decoded from their codes, and the codebook's scalar loss."""
        codes = self._codes(name)
        with mixed(images.device):
            cells = codes.cells(images)
            nearest, loss, numbers = codes.quantised(cells)
            result = codes.decoded_cells(nearest).float()
        codes.revive(cells, numbers, step, source)
        return result, loss

    def _likelihood_loss(self, batch: Batch, source: torch.Generator) -> Tensor:
        """Scalar: −log p of each of the picture's codes, given the map's and those before (§3.2)."""
        with torch.no_grad():
            of_map, of_picture = self._map_codes(batch.maps), self._codes("pictures").encode(batch.images)
        written = torch.cat([of_map, of_picture + self.settings.codes], dim=1)
        with mixed(written.device):
            logits = self.networks["transformer"](written[:, :-1], use_cache=False).logits
        logits = logits[:, of_map.shape[1] - 1 :, self.settings.codes :].float()
        return F.cross_entropy(logits.transpose(1, 2), of_picture)

    def _codes(self, name: str) -> Codes:
        codes = self.networks[name]
        assert isinstance(codes, Codes)
        return codes

    def _map_codes(self, maps: Tensor) -> Tensor:
        """Numbers (B, L) of class maps (B, 3, H, W) in [0, 1]."""
        return self._codes("maps").encode(one_hot(maps, self.settings.palette))

    def pictures(self, prompts: Sequence[str], maps: Sequence[Image.Image], seeds: Sequence[int]) -> list[Image.Image]:
        """See `Method`."""
        check_request(self, prompts, maps, seeds, self.base.size)
        return in_batches(maps, seeds, self._pictures)

    @torch.no_grad()
    def _pictures(self, maps: Tensor, seeds: Sequence[int], rows: slice) -> list[Image.Image]:
        """Of maps (B, 3, H, W)."""
        of_map = self._map_codes(maps.to(self.base.device))
        length = (self.base.size // PICTURE_CELL) ** 2
        sources = generators(list(seeds))
        written = write(self.networks["transformer"], of_map, length, self.settings.codes, self.settings.top, sources)
        return from_signed(self._codes("pictures").decode(written))


@torch.no_grad()
def write(
    transformer: nn.Module, begun: Tensor, length: int, first: int, top: int, sources: Sequence[torch.Generator]
) -> Tensor:
    """Numbers (B, length) of a picture's codes, which follow those of its map, (B, L).

    Keys and values of what is written are kept, so that each step reads one code.

    Args:
        first: the token of a picture's code 0.
        top: as for `drawn`.
        sources: one for each row.
    """
    read, kept, written = begun, None, []
    for _ in range(length):
        output = transformer(read, past_key_values=kept, use_cache=True)
        kept, chosen = output.past_key_values, drawn(output.logits[:, -1, first:], top, sources)
        written.append(chosen)
        read = chosen + first
    return torch.cat(written, dim=1)


def drawn(logits: Tensor, top: int, sources: Sequence[torch.Generator]) -> Tensor:
    """A number (B, 1) for each row, drawn by its own source among the `top` most likely of its logits (B, K).

    Where the running sum of the probabilities passes a uniform number: rounding moves a choice as good as never.
    """
    best = logits.double()
    least = best.topk(min(top, best.shape[1]), dim=1).values[:, -1:]
    probabilities = best.masked_fill(best < least, -torch.inf).softmax(dim=1).cumsum(dim=1)
    uniform = torch.cat([torch.rand((1, 1), generator=source, dtype=torch.float64) for source in sources])
    place = torch.searchsorted(probabilities, uniform.to(logits.device) * probabilities[:, -1:], right=True)
    return place.clamp(max=best.shape[1] - 1)
