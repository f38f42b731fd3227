"""The training dataset: each sample is a pair of images with all its random numbers.

Randomness depends only on (seed, step, index in the batch), so a sample is the same in any process, in any part of an
accumulated batch, with or without a cache, and after a restart.
"""

import signal
import warnings
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
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.pixels import signed, to_pixels
from maquette.noise.process import NoiseProcess, image_tokens
from maquette.text.conditioning import Conditioning
from maquette.training.data.filling import encode, entry
from maquette.training.data.latent_cache import Cache
from maquette.training.parts import DataConfig

Sample = dict[str, Any]
"""The fields of `Batch` for one row, without the batch axis."""

ATTEMPTS = 100  # rows to try in place of a broken one


class SampleIndex(NamedTuple):
    """Where a sample stands in the training, and which row of the data it takes."""

    step: int
    number: int  # index in the batch
    row: int


@dataclass(frozen=True)
class Batch:
    """The samples of one step; tensors are stacked along the first axis."""

    rows: Tensor
    conditions: Tensor  # (B, H, W, 3) uint8
    moments: Tensor | None  # (B, 2C, h, w) mean and log-variance of the latents, from the cache
    images: Tensor | None  # (B, H, W, 3) uint8, without a cache
    text: Conditioning | None  # from the cache, without size-dependent parts
    prompts: list[str]
    timesteps: Tensor  # (B,)
    sample: Tensor  # (B, C, h, w) noise to sample the posterior with
    noise: Tensor  # (B, C, h, w) added to the latents
    faults: list[BadRow]  # unreadable rows that were replaced by others

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, start: int, stop: int) -> "Batch":
        """Samples `start` to `stop`, for gradient accumulation."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        sliced: dict[str, Any] = {name: value if value is None else value[start:stop] for name, value in values.items()}
        return Batch(**{**sliced, "faults": self.faults})

    @staticmethod
    def of(rows: "Sequence[Sample]") -> "Batch":
        """Collate samples into a batch."""
        listed: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
        stacked: dict[str, Any] = {name: _stacked(values) for name, values in listed.items()}
        return Batch(**{**stacked, "faults": [fault for row in rows for fault in row["faults"]]})


def _stacked(values: list[Any]) -> Any:
    """One field of all samples: tensors and conditionings stacked, None as None, anything else as a list."""
    if isinstance(values[0], Conditioning):
        return Conditioning.stack(values)
    return torch.stack(values) if isinstance(values[0], Tensor) else None if values[0] is None else values


@dataclass(frozen=True)
class LatentSpec:
    """What samples need to know of the base, without its weights, so that worker processes can have it."""

    process: NoiseProcess
    channels: int  # latent channels
    downscale: int  # pixels per latent cell, per side
    size_multiple: int  # pixels per image token, per side

    @staticmethod
    def of(base: Base) -> "LatentSpec":
        """The spec of a base."""
        return LatentSpec(base.noise, base.backbone.latent_channels, base.backbone.downscale, base.size_multiple)

    def latents(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """The latent shape (C, h, w) for images of size (width, height)."""
        width, height = size
        return self.channels, height // self.downscale, width // self.downscale

    def tokens(self, size: tuple[int, int]) -> int:
        """The number of image tokens for images of size (width, height)."""
        return image_tokens(size, self.size_multiple)


@dataclass(frozen=True)
class TrainingDataset(Dataset[Sample]):
    """Samples by `SampleIndex`."""

    pairs: Pairs
    cache: Cache | None
    settings: DataConfig
    groups: Sequence[NDArray[np.intp]]  # rows of the same shape, which may replace one another
    spec: LatentSpec
    seed: int  # seed of the run

    def __getitem__(self, index: SampleIndex) -> dict[str, Any]:
        """One sample: the fields of `Batch` without the batch axis. A broken row is replaced by another of its shape.

        Raises `MaquetteError` if `ATTEMPTS` replacements could not be read either.
        """
        seed = (self.seed, index.step, index.number)
        faults: list[BadRow] = []
        for row in self._candidates(index.row, seed):
            try:
                return {**self._row(row, seed), "faults": faults}
            except RowError as error:
                faults.append(error.fault)
        raise MaquetteError(
            f"{faults[0].where}: {faults[0].reason.rstrip('.')}. Nor could {ATTEMPTS} other rows be read."
        )

    def _row(self, row: int, seed: tuple[int, int, int]) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        drop_text, drop_condition = torch.rand(2, generator=generator).tolist()
        size = self.pairs.shape(row)
        (timestep,) = self.spec.process.sample_times(1, generator, self.spec.tokens(size))
        sample, noise = torch.randn((2, *self.spec.latents(size)), generator=generator)
        view = self.pairs.view(rng)
        prompt = "" if drop_text < self.settings.prompt_drop else self._prompt(row, seed)
        moments = self._moments(row, view)
        image, condition = self._images(row, view, rng, cached=moments is not None)
        pixels = to_pixels(condition)
        return {
            "rows": torch.tensor(row),
            "conditions": torch.zeros_like(pixels) if drop_condition < self.settings.condition_drop else pixels,
            "moments": moments,
            "images": image and to_pixels(image),
            "text": self._text(prompt),
            "prompts": prompt,
            "timesteps": timestep,
            "sample": sample,
            "noise": noise,
        }

    def _prompt(self, row: int, seed: tuple[int, int, int]) -> str:
        """The row's text, or in `prompt_conflict` of the samples one that contradicts the image."""
        conflicts = np.random.default_rng((*seed, 2)).random() < self.settings.prompt_conflict
        return self.pairs.conflicting(row) if conflicts else self.pairs.text(row)

    def _moments(self, row: int, view: CropView) -> Tensor | None:
        """Mean and log-variance (2C, h, w) from the cache; None without one, and if they were lost.

        Raises `RowError` for a row that could not be read when the cache was built.
        """
        if self.cache is None:
            return None
        try:
            moments = self.cache.moments(row, view)
        except KeyError:
            return None
        if moments is None:
            self.pairs.image(row, view)  # says why, if it still cannot be read
            raise RowError(self.pairs.where(row), "could not be read when the cache was built")
        return moments

    def _text(self, prompt: str) -> Conditioning | None:
        """A prompt's features from the cache; None without one, and if they were lost."""
        try:
            return self.cache.text(prompt) if self.cache else None
        except KeyError:
            return None

    def collate(self, rows: list[Sample]) -> "Batch | list[Sample]":
        """A batch of rows; the rows themselves if the cache has lost anything of them."""
        lost = self.cache and any(row["moments"] is None or row["text"] is None for row in rows)
        return rows if lost else Batch.of(rows)

    def _images(
        self, row: int, view: CropView, rng: np.random.Generator, cached: bool
    ) -> tuple[Image.Image | None, Image.Image]:
        """The image (None if its latents are read from the cache) and the condition map."""
        if cached:
            return None, self.pairs.condition_map(row, view, rng)
        pair = self.pairs.pair(row, view, rng)
        assert pair.condition is not None, "a pair has a condition map"
        return pair.image, pair.condition

    def _candidates(self, row: int, seed: tuple[int, int, int]) -> Iterator[int]:
        yield row
        group = next(rows for rows in self.groups if row in rows)
        yield from np.random.default_rng((*seed, 1)).choice(group, ATTEMPTS).tolist()


def load(samples: TrainingDataset, indices: Iterator[list[SampleIndex]], workers: int, base: Base) -> Iterator[Batch]:
    """One batch per list of indices, in order, loaded ahead by `workers` processes (0: none)."""
    loader = DataLoader(
        samples,
        batch_sampler=indices,
        num_workers=workers,
        collate_fn=samples.collate,
        worker_init_fn=_ignore_interrupt,
    )
    for batch in loader:
        yield batch if isinstance(batch, Batch) else Batch.of([restored(row, base) for row in batch])


@torch.no_grad()
def restored(row: Sample, base: Base) -> Sample:
    """A row with what the cache has lost of it, computed anew."""
    warnings.warn(
        "The cache has lost entries since the training began; they are computed anew, which takes longer and may "
        "change the last bits of the weights. The next start stores them.",
        MaquetteWarning,
        stacklevel=3,
    )
    row = dict(row)
    if row["moments"] is None:
        row["moments"] = encode(base, signed(row["images"][None]))[0]
    if row["text"] is None:
        row["text"] = Conditioning(**entry(base.encode_text([row["prompts"]]).of_prompt()[0]))
    return {**row, "images": None}


def _ignore_interrupt(_: int) -> None:
    """Ctrl-C reaches every process of a terminal; only the training process decides when its workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
