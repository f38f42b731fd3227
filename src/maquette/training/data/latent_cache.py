"""Outputs of the frozen networks, computed once and kept on disk: latent posteriors and text features.

Nothing random is cached. Latents are stored as mean and log-variance and sampled anew each time; each view of a pair
has a separate entry; a dropped prompt uses the entry of the empty prompt. Entries are keyed by content: the image's
bytes, its crop and the autoencoder's weights, or the prompt and the text encoders' weights. So a cache never goes
stale, and all runs and processes can share one. What was lost is computed anew: at the next start, and until then by
`restored`.

The keys of a data set are stored too, for `CHUNK` rows together, under the signatures of those rows: an image is read
and hashed once, and again only if the size, time or inode of its file changes. What stays in memory is 16 bytes for
each chunk, and each process of a machine looks after its share of them.
"""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from maquette.base import Base
from maquette.data.crop import CropView
from maquette.data.pairs import Pairs
from maquette.errors import MaquetteError
from maquette.text.conditioning import Conditioning
from maquette.training.data.filling import CHUNK, DIGEST, NONE, Filling, Keys, text_key
from maquette.training.data.tensor_store import Store, open_store
from maquette.training.distributed.world import World

SPARE = 1.1  # size of a store, relative to its tensors


@dataclass(frozen=True)
class Cache:
    """The cached posteriors and text features of a data set."""

    store: Store
    chunks: Keys  # (chunks, DIGEST): the entries that hold the keys of the posteriors, of `CHUNK` rows each
    views: tuple[CropView, ...]
    encoder: bytes  # digest of the text encoders
    count: int  # posteriors, of readable rows

    def moments(self, row: int, view: CropView) -> Tensor | None:
        """Mean and log-variance (2C, h, w) in half precision; None if the pair could not be read.

        Raises `KeyError` if they were lost since, or damaged.
        """
        number, place = divmod(row, CHUNK)
        keys = self.store.get(self.chunks[number].tobytes())["keys"]
        key = keys[place, self.views.index(view)].numpy().tobytes()
        return None if key == NONE else self.store.get(key)["moments"]

    def text(self, prompt: str) -> Conditioning:
        """The features of a prompt, without batch axis and size-dependent parts.

        Raises `KeyError` if they were lost since, or damaged.
        """
        return Conditioning(**self.store.get(text_key(self.encoder, prompt)))


def precompute(base: Base, pairs: Pairs, folder: Path, world: World, conflicting: bool = False) -> Cache:
    """Compute the missing entries of the cache in `folder`, split over the processes of each machine.

    Args:
        conflicting: whether the pairs' conflicting texts are needed too.

    Unreadable pairs are left out, and tried again at the next start; the dataset reports them. Raises `MaquetteError`
    if the disk is too small, before any tensor is written.
    """
    views = pairs.views()
    assert views is not None, "random crops cannot be cached"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        filling = Filling(base, pairs, views, open_store(folder), pool, conflicting)
        mine, count = _fill_share(filling, len(pairs), folder, world)
    shares = world.gather_local((mine, count))  # also waits for all
    chunks = np.zeros((sum(len(share) for share, _ in shares), DIGEST), np.uint8)
    for rank, (share, _) in enumerate(shares):
        chunks[rank :: world.local_count] = share
    return Cache(filling.store, chunks, views, filling.encoder, sum(counted for _, counted in shares))


def _fill_share(filling: Filling, rows: int, folder: Path, world: World) -> tuple[Keys, int]:
    """Fill this process's share of the chunks; returns their keys (n, DIGEST), and the number of posteriors."""
    numbers = range(world.local_rank, -(-rows // CHUNK), world.local_count)
    keys, count, waiting = np.zeros((len(numbers), DIGEST), np.uint8), 0, []
    for place, number in enumerate(tqdm(numbers, "checking pairs", unit=" chunks", disable=len(numbers) < 2)):
        chunk = filling.open(number)
        keys[place] = np.frombuffer(chunk.key, np.uint8)
        if chunk.missing:
            waiting.append(chunk)
        else:
            count += chunk.count
    needed = world.gather_local(filling.look_up(waiting))
    check_disk_space(filling.base, sum(pixels for pixels, _ in needed), sum(texts for _, texts in needed), folder)
    filling.encode_texts([""])
    for chunk in tqdm(waiting, "encoding pairs", unit=" chunks", disable=not waiting):
        filling.fill(chunk)
        count += chunk.count
    return keys, count


def check_disk_space(base: Base, pixels: int, texts: int, folder: Path) -> None:
    """Announce a large cache before it is written.

    Args:
        pixels, texts: of the images and the number of prompts still to be cached.

    Raises `MaquetteError` if the disk is too small.
    """
    cells = pixels // base.backbone.downscale**2
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
