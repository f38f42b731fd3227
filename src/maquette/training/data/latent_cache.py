"""Outputs of the frozen networks, computed once and kept on disk: latent posteriors and text features.

Nothing random is cached. Latents are stored as mean and log-variance and sampled anew each time; each view of a pair
has a separate entry; a dropped prompt uses the entry of the empty prompt. Entries are keyed by content: the image's
bytes, its crop and the autoencoder's weights, or the prompt and the text encoders' weights. So a cache never goes
stale, and all runs and processes can share one.
"""

import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from maquette.base import Base
from maquette.data.crop import CropView
from maquette.data.pairs import Pairs
from maquette.errors import MaquetteError
from maquette.foundation.pixels import to_signed
from maquette.text.conditioning import Conditioning
from maquette.training.data.tensor_store import Store
from maquette.training.distributed.world import World
from maquette.training.hardware import at_once

T = TypeVar("T")

DIGEST = 16  # bytes of a key
SPARE = 1.1  # size of a store, relative to its tensors
TEXTS = 32  # prompts per text encoder batch
TEXT_LAYOUT = b"conditioning"  # part of text keys: entries stored in an older layout are not read


@dataclass(frozen=True)
class Cache:
    """The cached posteriors and text features of a data set."""

    store: Store
    images: dict[tuple[int, CropView], bytes]  # keys of the posteriors of readable rows
    encoder: bytes  # digest of the text encoders

    def moments(self, row: int, view: CropView) -> Tensor | None:
        """Mean and log-variance (2C, h, w) in half precision; None if the pair could not be read."""
        key = self.images.get((row, view))
        return None if key is None else self.store.get(key)["moments"]

    def text(self, prompt: str) -> Conditioning:
        """The features of a prompt, without batch axis and size-dependent parts."""
        return Conditioning(**self.store.get(text_key(self.encoder, prompt)))


def precompute(base: Base, pairs: Pairs, folder: Path, world: World, conflicting: bool = False) -> Cache:
    """Compute the missing entries of the cache in `folder`, split over the processes.

    Args:
        conflicting: whether the pairs' conflicting texts are needed too.

    Unreadable pairs are left out; the dataset reports them. Raises `MaquetteError` if the disk is too small, before
    anything is written.
    """
    views = pairs.views()
    assert views is not None, "random crops cannot be cached"
    store = Store(folder / "cache.sqlite")
    encoder = _text_digest(base)
    rows = np.concatenate(pairs.blocks()).tolist()
    named = _named(pairs, rows, views, weights_digest(base.autoencoder))
    others = _conflicting(pairs, rows) if conflicting else ()
    prompts = {text_key(encoder, prompt): prompt for prompt in {"", *others, *(text for _, text in named.values())}}
    keys = {(row, view): key for (row, view), (key, _) in named.items()}
    known = store.present([*keys.values(), *prompts])
    new_keys = {key: view for view, key in keys.items() if key not in known}  # one (row, view) per distinct content
    new_prompts = {key: prompt for key, prompt in prompts.items() if key not in known}
    check_disk_space(base, pairs, [row for row, _ in new_keys.values()], len(new_prompts), folder)
    assigned = sorted(item for item in new_keys.items() if world.owns(item[0]))
    assigned.sort(key=lambda item: pairs.shape(item[1][0]))
    groups = [list(group) for _, group in itertools.groupby(assigned, key=lambda item: pairs.shape(item[1][0]))]
    chunks = [chunk for group in groups for chunk in _chunks(group, at_once(pairs.shape(group[0][1][0])))]
    for keyed in _bar(chunks, "encoding images"):
        _encode_images(base, pairs, store, keyed)
    new_texts = sorted(item for item in new_prompts.items() if world.owns(item[0]))
    for chunk in _bar(_chunks(new_texts, TEXTS), "encoding captions"):
        text = base.encode_text([prompt for _, prompt in chunk]).of_prompt()
        store.put((key, _entry(text[number])) for number, (key, _) in enumerate(chunk))
    world.barrier()
    present = store.present(list(keys.values()))
    return Cache(store, {view: key for view, key in keys.items() if key in present}, encoder)


def encode(base: Base, pixels: Tensor) -> Tensor:
    """Posteriors (B, 2C, h, w) of images (B, 3, H, W) in [-1, 1], as cached: half precision, on the CPU."""
    return base.posterior(pixels).half().cpu().contiguous()


def _text_digest(base: Base) -> bytes:
    """Digest of the text encoders and of their tokenization."""
    return _digest(TEXT_LAYOUT, weights_digest(*base.text.modules), base.text.vocabulary.encode())


def weights_digest(*networks: nn.Module) -> bytes:
    """Digest of all weights and their names."""
    digest = hashlib.blake2b(digest_size=DIGEST)
    for network in networks:
        for name, value in network.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.digest()


def text_key(encoder: bytes, prompt: str) -> bytes:
    """Key of a prompt's features; `encoder` is the digest of the text encoders."""
    return _digest(encoder, prompt.encode())


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"/".join(parts), digest_size=DIGEST).digest()


def _named(
    pairs: Pairs, rows: list[int], views: Sequence[CropView], autoencoder: bytes
) -> dict[tuple[int, CropView], tuple[bytes, str]]:
    """Key and prompt of every view of every readable row."""

    def name(row: int) -> tuple[bytes, str] | None:
        try:
            return pairs.content(row), pairs.text(row)
        except MaquetteError:
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(tqdm(pool.map(name, rows), total=len(rows), desc="reading pairs", disable=len(rows) < 1000))
    return {
        (row, view): (_digest(autoencoder, content[0], repr(view).encode()), content[1])
        for row, content in zip(rows, found, strict=True)
        if content is not None
        for view in views
    }


def _conflicting(pairs: Pairs, rows: list[int]) -> Iterator[str]:
    for row in rows:
        with suppress(MaquetteError):
            yield pairs.conflicting(row)


def _encode_images(base: Base, pairs: Pairs, store: Store, keyed: list[tuple[bytes, tuple[int, CropView]]]) -> None:
    def read(view: tuple[int, CropView]) -> Image.Image | None:
        try:
            return pairs.image(*view)
        except MaquetteError:
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = pool.map(read, [view for _, view in keyed])
        found = [(key, image) for (key, _), image in zip(keyed, images, strict=True) if image is not None]
    if found:
        encoded = encode(base, torch.stack([to_signed(image) for _, image in found]))
        store.put((key, {"moments": moments}) for (key, _), moments in zip(found, encoded, strict=True))


def _chunks(rows: list[T], size: int) -> list[list[T]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _bar(chunks: list[T], label: str) -> "tqdm[T]":
    return tqdm(chunks, desc=label, unit=" batches", disable=not chunks)


def _entry(text: Conditioning) -> dict[str, Tensor]:
    """Copies of one prompt's tensors on the CPU, independent of the batch they are views of."""
    return {name: value.cpu().clone() for name, value in text.tensors().items()}


def check_disk_space(base: Base, pairs: Pairs, rows: list[int], texts: int, folder: Path) -> None:
    """Announce a large cache before it is written.

    Args:
        rows, texts: the rows and the number of prompts still to be cached.

    Raises `MaquetteError` if the disk is too small.
    """
    cells = sum(width * height for width, height in map(pairs.shape, rows)) // base.backbone.downscale**2
    text_size = sum(tensor.nbytes for tensor in base.encode_text([""]).of_prompt().tensors().values()) if texts else 0
    size = int(SPARE * (cells * base.backbone.latent_channels * 2 * 2 + text_size * texts))
    free = shutil.disk_usage(folder).free
    if size > free:
        raise MaquetteError(
            f"The cache of these pairs takes {size / 2**30:.1f} GiB and {str(folder)!r} has {free / 2**30:.1f} GiB "
            "free; make room, set another cache_folder, or turn the cache off (cache = false)."
        )
    if size > 2**30:
        tqdm.write(f"The cache will take another {size / 2**30:.1f} GiB in {str(folder)!r}.")
