"""Batches of pairs as tensors, each a function of its step, with the base's posterior of an image computed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from maquette.base import Base
from maquette.data.crop import CropView
from maquette.data.pairs import Pairs
from maquette.foundation.pixels import to_signed, to_unit

MOST_KEPT = 2**16  # images whose posteriors stay in memory: 16 KiB each on the diorama


@dataclass(frozen=True)
class Batch:
    """B pairs in one step of a stage."""

    step: int  # of the stage, from 0
    images: Tensor  # (B, 3, H, W) in [-1, 1]
    maps: Tensor  # (B, 3, H, W) in [0, 1]
    texts: list[str]
    posteriors: Callable[[], Tensor]  # the base's, of the images: (B, 2C, h, w)


class Batches:
    """Random pairs for a training on a base."""

    def __init__(self, base: Base, pairs: Pairs, size: int, rows: Sequence[int] | None = None) -> None:
        """`size` pairs a batch, of these rows or all."""
        self._base, self._pairs, self._size = base, pairs, size
        self._rows = pairs.blocks().rows if rows is None else rows
        self._posterior = lru_cache(MOST_KEPT)(self._encoded)

    def draw(self, step: int, source: torch.Generator) -> Batch:
        """A batch by one source of chance, which also draws the parameters of a detector."""
        places = torch.randint(len(self._rows), (self._size,), generator=source)
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=source)))
        rows = [int(self._rows[place]) for place in places]
        views = [self._pairs.view(rng) for _ in rows]
        examples = [self._pairs.pair(row, view, rng) for row, view in zip(rows, views, strict=True)]
        maps = [to_unit(example.condition) for example in examples if example.condition is not None]
        images = torch.stack([to_signed(example.image) for example in examples])
        device = self._base.device

        def posteriors() -> Tensor:
            """(B, 2C, h, w)."""
            return torch.cat([self._posterior(row, view) for row, view in zip(rows, views, strict=True)])

        texts = [example.text for example in examples]
        return Batch(step, images.to(device), torch.stack(maps).to(device), texts, posteriors)

    def _encoded(self, row: int, view: CropView) -> Tensor:
        """The posterior (1, 2C, h, w) of one image: encoded alone, since in a batch it would be rounded otherwise."""
        return self._base.posterior(to_signed(self._pairs.image(row, view))[None])
