"""What a step takes of each of its rows: the pair, and all of its chance.

Every draw comes from (seed, step, place in the batch) alone, so that it is the same in any process, in any part of an
accumulated batch, with a cache or without, and after any restart.
"""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maquette.base import Base
from maquette.data.crop import CropView
from maquette.data.pairs import Pairs
from maquette.data.sources.jsonl import BadRow, RowError
from maquette.errors import MaquetteError
from maquette.foundation.pixels import to_pixels
from maquette.noise.process import NoiseProcess, image_tokens
from maquette.text.conditioning import Conditioning
from maquette.training.data.latent_cache import Cache
from maquette.training.parts import DataConfig

ATTEMPTS = 100  # rows in the place of one that is broken


class SampleIndex(NamedTuple):
    step: int
    number: int  # in the batch
    row: int


@dataclass(frozen=True)
class Batch:
    """Rows of one step; the first axis of each tensor is the row's."""

    rows: Tensor
    conditions: Tensor  # (B, H, W, 3) bytes
    moments: Tensor | None  # (B, 2C, h, w) of the latents' posterior, from the cache
    images: Tensor | None  # (B, H, W, 3) bytes, without a cache
    text: Conditioning | None  # from the cache, without what depends on the size
    words: list[str]
    timesteps: Tensor  # (B,)
    sample: Tensor  # (B, C, h, w) noise for the draw from the posterior
    noise: Tensor  # (B, C, h, w)
    faults: list[BadRow]  # rows that could not be read, for which others stand

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, start: int, stop: int) -> "Batch":
        """Some of the rows."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        cut: dict[str, Any] = {name: value if value is None else value[start:stop] for name, value in values.items()}
        return Batch(**{**cut, "faults": self.faults})

    @staticmethod
    def of(rows: Sequence[dict[str, Any]]) -> "Batch":
        listed: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
        stacked: dict[str, Any] = {name: _stacked(values) for name, values in listed.items()}
        return Batch(**{**stacked, "faults": [fault for row in rows for fault in row["faults"]]})


def _stacked(values: list[Any]) -> Any:
    """What the rows have of one field: tensors as one, nothing as nothing, all else as a list."""
    if isinstance(values[0], Conditioning):
        return Conditioning.stack(values)
    return torch.stack(values) if isinstance(values[0], Tensor) else None if values[0] is None else values


@dataclass(frozen=True)
class LatentSpec:
    """What a row depends on of the base, without its weights: processes that read ahead have it too."""

    process: NoiseProcess
    channels: int  # of the latents
    downscale: int  # pixels to one latent cell, a side
    size_multiple: int  # pixels to one image token, a side

    @staticmethod
    def of(base: Base) -> "LatentSpec":
        return LatentSpec(base.noise, base.backbone.latent_channels, base.backbone.downscale, base.size_multiple)

    def latents(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """The shape (C, h, w) of the latents of images (width, height)."""
        width, height = size
        return self.channels, height // self.downscale, width // self.downscale

    def tokens(self, size: tuple[int, int]) -> int:
        return image_tokens(size, self.size_multiple)


@dataclass(frozen=True)
class TrainingDataset(Dataset[dict[str, Any]]):
    """Rows by their place in a training."""

    pairs: Pairs
    cache: Cache | None
    settings: DataConfig
    groups: Sequence[NDArray[np.intp]]  # rows of one shape each: what may stand for one another
    spec: LatentSpec
    seed: int  # of the run

    def __getitem__(self, place: SampleIndex) -> dict[str, Any]:
        seed = (self.seed, place.step, place.number)
        faults: list[BadRow] = []
        for row in self._candidates(place.row, seed):
            try:
                return {**self._row(row, seed), "faults": faults}
            except RowError as error:
                faults.append(error.fault)
        raise MaquetteError(f"{faults[0].where}: {faults[0].reason.rstrip('.')}. Nor could {ATTEMPTS} others be read.")

    def _row(self, row: int, seed: tuple[int, int, int]) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        drop_text, drop_condition = torch.rand(2, generator=generator).tolist()
        size = self.pairs.shape(row)
        (timestep,) = self.spec.process.sample_times(1, generator, self.spec.tokens(size))
        sample, noise = torch.randn((2, *self.spec.latents(size)), generator=generator)
        view = self.pairs.view(rng)
        words = "" if drop_text < self.settings.prompt_drop else self.pairs.text(row)
        moments = self.cache.moments(row, view) if self.cache else None
        image, condition = self._seen(row, view, rng, cached=moments is not None)
        shown = to_pixels(condition)
        return {
            "rows": torch.tensor(row),
            "conditions": torch.zeros_like(shown) if drop_condition < self.settings.condition_drop else shown,
            "moments": moments,
            "images": image and to_pixels(image),
            "text": self.cache.text(words) if self.cache else None,
            "words": words,
            "timesteps": timestep,
            "sample": sample,
            "noise": noise,
        }

    def _seen(
        self, row: int, view: CropView, rng: np.random.Generator, cached: bool
    ) -> tuple[Image.Image | None, Image.Image]:
        """The image, unless its latents are cached, and its condition."""
        if cached:
            return None, self.pairs.condition_map(row, view, rng)
        pair = self.pairs.pair(row, view, rng)
        if self.cache:
            raise RowError(self.pairs.where(row), "could not be read when the cache was made")
        assert pair.condition is not None, "a pair has a condition"
        return pair.image, pair.condition

    def _candidates(self, row: int, seed: tuple[int, int, int]) -> Iterator[int]:
        yield row
        like = next(group for group in self.groups if row in group)
        yield from np.random.default_rng((*seed, 1)).choice(like, ATTEMPTS).tolist()


def load(draws: TrainingDataset, places: Iterator[list[SampleIndex]], workers: int) -> Iterator[Batch]:
    """The batches of lists of places, in their order, read ahead by so many processes (0: none)."""
    loader = DataLoader(
        draws, batch_sampler=places, num_workers=workers, collate_fn=Batch.of, worker_init_fn=_leave_signals
    )
    yield from loader


def _leave_signals(_: int) -> None:
    """Ctrl-C reaches every process of a terminal: the training's own decides when its readers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
