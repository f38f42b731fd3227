"""Filling the cache of a data set, chunk by chunk: memory holds a few numbers for a row that is new, none for others.

The keys of a chunk's posteriors are stored under the signatures of its rows. So an image is read and hashed once, and
again only if the size, time or inode of its file changes, or if it could not be read.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
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
from maquette.training.hardware import at_once

T = TypeVar("T")
Keys = NDArray[np.uint8]

CHUNK = 1024  # rows whose keys are one entry
DIGEST = 16  # bytes of a key
NONE = bytes(DIGEST)  # in place of the key of an image that could not be read
ROWS = 64  # rows per task of the thread pool
TEXTS = 32  # prompts per text encoder batch
TEXT_LAYOUT = b"conditioning"  # part of text keys: entries stored in an older layout are not read


@dataclass
class Chunk:
    """Some consecutive rows of a data set."""

    key: bytes  # from the signatures of its rows
    keys: Keys  # (CHUNK or fewer, views, DIGEST): of the posteriors; `NONE` for rows that were not read
    missing: "array[int]"  # rows without keys
    is_new: bool  # whether it has no entry yet

    @property
    def count(self) -> int:
        """The number of posteriors."""
        return int(self.keys.any(axis=2).sum())


@dataclass(frozen=True)
class Filling:
    """Fills a cache chunk by chunk."""

    base: Base
    pairs: Pairs
    views: tuple[CropView, ...]
    store: Store
    pool: ThreadPoolExecutor
    conflicting: bool = False  # whether the pairs' conflicting texts are cached too

    @cached_property
    def encoder(self) -> bytes:
        """Digest of the text encoders and of their tokenization."""
        text = self.base.text
        return _digest(TEXT_LAYOUT, weights_digest(*text.modules), text.vocabulary.encode())

    @cached_property
    def autoencoder(self) -> bytes:
        """Digest of the autoencoder."""
        return weights_digest(self.base.autoencoder)

    @cached_property
    def wanted(self) -> NDArray[np.intp]:
        """The rows to train on, ascending."""
        return self.pairs.blocks().rows

    def open(self, number: int) -> Chunk:
        """A chunk as it is stored, or without any key."""
        first, last = number * CHUNK, min((number + 1) * CHUNK, len(self.pairs))
        rows: list[int] = self.wanted[slice(*np.searchsorted(self.wanted, (first, last)))].tolist()
        signatures = (_digest(signature) for signature in self._of_rows(self._signature, rows))
        key = _digest(self.autoencoder, self.encoder, repr(self.views).encode(), repr(rows).encode(), *signatures)
        stored = self.store.find(key)
        shape = (last - first, len(self.views), DIGEST)
        keys = np.zeros(shape, np.uint8) if stored is None else self._held(stored["keys"].numpy())
        missing = array("q", (row for row in rows if not keys[row - first].any(axis=1).all()))
        return Chunk(key, keys, missing, stored is None)

    def _held(self, keys: Keys) -> Keys:
        """The keys (n, views, DIGEST) of a chunk, zero for posteriors that were lost since they were stored."""
        listed = [key.tobytes() for key in keys.reshape(-1, DIGEST)]
        present = self.store.present(list({*listed} - {NONE}))
        return keys * np.array([key in present for key in listed], np.uint8).reshape(*keys.shape[:2], 1)

    def _signature(self, row: int) -> bytes:
        """What changes with everything that is cached of a row."""
        signature = self.pairs.signature(row)
        return signature + b"/" + self.pairs.conflicting(row).encode() if self.conflicting else signature

    def look_up(self, waiting: list[Chunk]) -> tuple[int, int]:
        """Set the keys of the missing rows of chunks; returns the pixels and the number of prompts to be encoded."""
        images, pixels, texts = ([np.zeros(0, np.int64)] for _ in range(3))
        for chunk in tqdm(waiting, "reading pairs", unit=" chunks", disable=not waiting):
            self._name(chunk)
            new = self._absent(key.tobytes() for key in chunk.keys[_places(chunk)].reshape(-1, DIGEST))
            area = np.mean([width * height for width, height in map(self.pairs.shape, chunk.missing)])
            images.append(new)
            pixels.append(np.full(len(new), area, np.int64))
            texts.append(self._absent(self._prompts(chunk)))
        _, firsts = np.unique(np.concatenate(images), return_index=True)
        return int(np.concatenate(pixels)[firsts].sum()), len(np.unique(np.concatenate(texts)))

    def _name(self, chunk: Chunk) -> None:
        """Set the keys of the missing rows of a chunk that can be read."""
        contents = self._of_rows(self.pairs.content, chunk.missing)
        for place, content in zip(_places(chunk), contents, strict=True):
            for number, view in enumerate(self.views if content else ()):
                key = _digest(self.autoencoder, content, repr(view).encode())
                chunk.keys[place, number] = np.frombuffer(key, np.uint8)

    def _prompts(self, chunk: Chunk) -> dict[bytes, str]:
        """The prompts of the missing rows, by key; the empty one for rows that cannot be read."""
        readers = [self.pairs.text, self.pairs.conflicting] if self.conflicting else [self.pairs.text]
        texts = {
            text.decode()
            for reader in readers
            for text in self._of_rows(lambda row, reader=reader: reader(row).encode(), chunk.missing)  # type: ignore[misc]
        }
        return {text_key(self.encoder, text): text for text in sorted(texts)}  # the same batches in every process

    def _absent(self, keys: Iterable[bytes]) -> NDArray[np.int64]:
        """The first halves of those keys that have no entry, each once: enough to count the distinct ones."""
        listed = list({*keys} - {NONE})
        present = self.store.present(listed)
        new = b"".join(key[:8] for key in listed if key not in present)
        return np.frombuffer(new, np.int64)

    def _of_rows(self, read: Callable[[int], bytes], rows: Sequence[int]) -> list[bytes]:
        """What `read` returns for each row, several parts at a time; nothing for rows that cannot be read."""
        parts = self.pool.map(lambda part: [_or_empty(read, row) for row in part], _parts(rows, ROWS))
        return [found for part in parts for found in part]

    def fill(self, chunk: Chunk) -> None:
        """Encode what is missing of a chunk, then store its keys; rows that cannot be decoded get none."""
        self.encode_texts(self._prompts(chunk).values())
        self._encode_images(chunk)
        places = _places(chunk)
        stored = self.store.present(list({key.tobytes() for key in chunk.keys[places].reshape(-1, DIGEST)}))
        for place in places:
            for number in range(len(self.views)):
                if chunk.keys[place, number].tobytes() not in stored:
                    chunk.keys[place, number] = 0
        self.store.put([(chunk.key, {"keys": torch.from_numpy(chunk.keys)})], anew=not chunk.is_new)

    def encode_texts(self, prompts: Iterable[str]) -> None:
        """Store the features of those prompts that have none."""
        keyed = {text_key(self.encoder, prompt): prompt for prompt in prompts}
        present = self.store.present(list(keyed))
        for part in _parts([key for key in keyed if key not in present], TEXTS):
            text = self.base.encode_text([keyed[key] for key in part]).of_prompt()
            self.store.put((key, entry(text[number])) for number, key in enumerate(part))

    def _encode_images(self, chunk: Chunk) -> None:
        """Store the posteriors of those views of the missing rows that have none, images of one shape together."""
        keyed = {
            chunk.keys[row % CHUNK, number].tobytes(): (row, view)
            for row in chunk.missing
            for number, view in enumerate(self.views)
        }
        present = self.store.present(list(keyed))
        new = [(self.pairs.shape(row), key, row, view) for key, (row, view) in keyed.items() if key not in present]
        new = sorted((item for item in new if item[1] != NONE), key=lambda item: item[:2])
        for shape, group in groupby(new, key=lambda item: item[0]):
            for part in _parts(list(group), at_once(shape)):
                images = self.pool.map(lambda item: self._image(item[2], item[3]), part)
                found = [(item[1], image) for item, image in zip(part, images, strict=True) if image is not None]
                if found:
                    moments = encode(self.base, torch.stack([to_signed(image) for _, image in found]))
                    self.store.put((key, {"moments": one}) for (key, _), one in zip(found, moments, strict=True))

    def _image(self, row: int, view: CropView) -> Image.Image | None:
        try:
            return self.pairs.image(row, view)
        except MaquetteError:
            return None


def encode(base: Base, pixels: Tensor) -> Tensor:
    """Posteriors (B, 2C, h, w) of images (B, 3, H, W) in [-1, 1], as cached: half precision, on the CPU."""
    return base.posterior(pixels).half().cpu().contiguous()


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


def _or_empty(read: Callable[[int], bytes], row: int) -> bytes:
    """What `read` returns; nothing for a row that cannot be read."""
    try:
        return read(row)
    except MaquetteError:
        return b""


def _places(chunk: Chunk) -> list[int]:
    """Where the missing rows of a chunk are in its keys."""
    return [row % CHUNK for row in chunk.missing]


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def entry(text: Conditioning) -> dict[str, Tensor]:
    """Copies of one prompt's tensors on the CPU, independent of the batch they are views of."""
    return {name: value.cpu().clone() for name, value in text.tensors().items()}
