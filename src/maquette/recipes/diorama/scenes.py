"""The rendered scenes as tensors on the device that trains."""

import torch
from torch import Tensor

from maquette.data.diorama import SCENES
from maquette.diorama import dataset


def load(count: int, device: str, *fields: str, first: int = dataset.TRAIN) -> list[Tensor]:
    """Fields of `count` scenes, rendered if need be, first axis the scene; see `dataset.load`."""
    seeds = range(first, first + count)
    dataset.prepare(seeds, SCENES)
    return [torch.from_numpy(dataset.load(seeds, SCENES, field)).to(device) for field in fields]


def captions(count: int, first: int = dataset.TRAIN) -> list[str]:
    return dataset.load_captions(range(first, first + count), SCENES)


def to_pixels(images: Tensor) -> Tensor:
    """Bytes (B, H, W, 3) to (B, 3, H, W) in [-1, 1], the channels last in memory."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def generator(seed: int, step: int, device: str) -> torch.Generator:
    """All chance of one step, so that a resumed training goes on as if it had not stopped."""
    return torch.Generator(device).manual_seed(seed * 1_000_003 + step)
