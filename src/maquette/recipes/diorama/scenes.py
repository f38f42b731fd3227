"""Rendered scenes as tensors on the training device."""

import torch
from torch import Tensor

from maquette.data.diorama import SCENES
from maquette.diorama import dataset


def load(count: int, device: str, *fields: str, first: int = dataset.TRAIN) -> list[Tensor]:
    """Fields (N, ...) of `count` scenes, rendered if necessary; see `dataset.load`."""
    seeds = range(first, first + count)
    dataset.prepare(seeds, SCENES)
    return [torch.from_numpy(dataset.load(seeds, SCENES, field)).to(device) for field in fields]


def captions(count: int, first: int = dataset.TRAIN) -> list[str]:
    """Captions of `count` rendered scenes."""
    return dataset.load_captions(range(first, first + count), SCENES)


def to_pixels(images: Tensor) -> Tensor:
    """Bytes (B, H, W, 3) to (B, 3, H, W) in [-1, 1], in channels-last memory format."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1
