"""What the locked networks say of pairs, computed once and kept on disk: posteriors of latents, features of words.

Chance stays out of it. Latents are kept as mean and log-variance and drawn afresh every time; each view of a pair has
an entry of its own; a dropped prompt is the empty prompt's entry. Entries are keyed by content: the image's bytes,
its frame and view and the autoencoder's weights, or the words and the text encoders' weights. So a cache never goes
stale, and every run and process may share one.
"""

import hashlib
import itertools
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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
SPARE = 1.1  # what a store takes, over its tensors
TEXTS = 32  # that are encoded together
TEXT_LAYOUT = b"conditioning"  # of the entries of texts: what is kept in another one is not read


@dataclass(frozen=True)
class Cache:
    store: Store
    images: dict[tuple[int, CropView], bytes]  # keys of posteriors, of the rows that can be read
    encoder: bytes  # digest of the text encoders

    def moments(self, row: int, view: CropView) -> Tensor | None:
        """(2C, h, w) half precision, mean and log-variance; None where the pair could not be read."""
        key = self.images.get((row, view))
        return None if key is None else self.store.get(key)["moments"]

    def text(self, words: str) -> Conditioning:
        """Of one prompt, without the rows' axis and without what depends on the size of the images."""
        return Conditioning(**self.store.get(text_key(self.encoder, words)))


def precompute(base: Base, pairs: Pairs, folder: Path, world: World) -> Cache:
    """Compute what a store in `folder` lacks of the pairs, this process its share of it.

    Says before it starts how large that is; raises `MaquetteError` where the disk has no room. What is broken is left
    out, for whoever draws it to tell of.
    """
    views = pairs.views()
    assert views is not None, "views that cannot be counted cannot be kept"
    store = Store(folder / "cache.sqlite")
    encoder = _text_digest(base)
    rows = np.concatenate(pairs.blocks()).tolist()
    named = _named(pairs, rows, views, weights_digest(base.autoencoder))
    words = {text_key(encoder, one): one for one in {"", *(text for _, text in named.values())}}
    keys = {(row, view): key for (row, view), (key, _) in named.items()}
    known = store.present([*keys.values(), *words])
    new_keys = {key: one for one, key in keys.items() if key not in known}  # one of each content
    new_words = {key: one for key, one in words.items() if key not in known}
    check_disk_space(base, pairs, [row for row, _ in new_keys.values()], len(new_words), folder)
    own = sorted((key, one) for key, one in new_keys.items() if world.owns(key))
    own.sort(key=lambda item: pairs.shape(item[1][0]))
    groups = [list(group) for _, group in itertools.groupby(own, key=lambda item: pairs.shape(item[1][0]))]
    chunks = [chunk for group in groups for chunk in _chunks(group, at_once(pairs.shape(group[0][1][0])))]
    for keyed in _bar(chunks, "encoding images"):
        _keep_images(base, pairs, store, keyed)
    new_texts = sorted(item for item in new_words.items() if world.owns(item[0]))
    for chunk in _bar(_chunks(new_texts, TEXTS), "encoding captions"):
        text = base.encode_text([one for _, one in chunk]).of_prompt()
        store.put((key, _entry(text[number])) for number, (key, _) in enumerate(chunk))
    world.barrier()
    present = store.present(list(keys.values()))
    return Cache(store, {one: key for one, key in keys.items() if key in present}, encoder)


def encode(base: Base, pixels: Tensor) -> Tensor:
    """Posteriors of images (B, 3, H, W) in [-1, 1] as they are kept: (B, 2C, h, w) half precision, on the CPU."""
    return base.posterior(pixels).half().cpu().contiguous()


def _text_digest(base: Base) -> bytes:
    """Of the text encoders, and of how words come to them."""
    return _digest(TEXT_LAYOUT, weights_digest(*base.text.modules), base.text.vocabulary.encode())


def weights_digest(*networks: nn.Module) -> bytes:
    """Of all weights by name: what a change of the model changes."""
    digest = hashlib.blake2b(digest_size=DIGEST)
    for network in networks:
        for name, value in network.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.digest()


def text_key(encoder: bytes, words: str) -> bytes:
    """Of a prompt's features, by the digest of the text encoders."""
    return _digest(encoder, words.encode())


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"/".join(parts), digest_size=DIGEST).digest()


def _named(
    pairs: Pairs, rows: list[int], views: Sequence[CropView], autoencoder: bytes
) -> dict[tuple[int, CropView], tuple[bytes, str]]:
    """Key and words of every view of every row that can be read."""

    def name(row: int) -> tuple[bytes, str] | None:
        try:
            return pairs.content(row), pairs.text(row)
        except MaquetteError:
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(tqdm(pool.map(name, rows), total=len(rows), desc="reading pairs", disable=len(rows) < 1000))
    return {
        (row, view): (_digest(autoencoder, one[0], repr(view).encode()), one[1])
        for row, one in zip(rows, found, strict=True)
        if one is not None
        for view in views
    }


def _keep_images(base: Base, pairs: Pairs, store: Store, keyed: list[tuple[bytes, tuple[int, CropView]]]) -> None:
    def read(one: tuple[int, CropView]) -> Image.Image | None:
        try:
            return pairs.image(*one)
        except MaquetteError:
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = pool.map(read, [one for _, one in keyed])
        found = [(key, image) for (key, _), image in zip(keyed, images, strict=True) if image is not None]
    if found:
        encoded = encode(base, torch.stack([to_signed(image) for _, image in found]))
        store.put((key, {"moments": one}) for (key, _), one in zip(found, encoded, strict=True))


def _chunks(rows: list[T], size: int) -> list[list[T]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _bar(chunks: list[T], words: str) -> "tqdm[T]":
    return tqdm(chunks, desc=words, unit=" batches", disable=not chunks)


def _entry(text: Conditioning) -> dict[str, Tensor]:
    """One row's own copies, without what lies beside it."""
    return {name: value.cpu().clone() for name, value in text.tensors().items()}


def check_disk_space(base: Base, pairs: Pairs, rows: list[int], texts: int, folder: Path) -> None:
    """How much is to be written, before it is; `MaquetteError` where the disk does not have it."""
    cells = sum(width * height for width, height in map(pairs.shape, rows)) // base.backbone.downscale**2
    each = sum(one.nbytes for one in base.encode_text([""]).of_prompt().tensors().values()) if texts else 0
    size = int(SPARE * (cells * base.backbone.latent_channels * 2 * 2 + each * texts))
    free = shutil.disk_usage(folder).free
    if size > free:
        raise MaquetteError(
            f"The cache of these pairs takes {size / 2**30:.1f} GiB and {str(folder)!r} has {free / 2**30:.1f} GiB "
            "free; make room, name another cache_folder, or turn the cache off (cache = false)."
        )
    if size > 2**30:
        tqdm.write(f"The cache will take {size / 2**30:.1f} GiB more in {str(folder)!r}.")
