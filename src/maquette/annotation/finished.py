"""Which shards of a target are done: whole, as they were written, and of images that are as they were."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import NamedTuple

from tqdm import tqdm

from maquette.annotation.output import ShardStats, Target
from maquette.data.sources.jsonl import RowError, Source
from maquette.errors import MaquetteWarning

DIGEST = 8  # bytes of a row's digest
MANY = 16  # shards: checking so many shows a progress bar


class Shard(NamedTuple):
    """Some rows of the source, by number, and the shard that they become."""

    number: int
    rows: Sequence[int]


def digest_of(content: bytes, text: str) -> str:
    """Of a row: the stored bytes of its image, and its text."""
    return blake2b(content + b"/" + text.encode(errors="surrogatepass"), digest_size=DIGEST).hexdigest()


def marks_of(source: Source, rows: Sequence[int]) -> str:
    """What changes when an image or a text of these rows does, found without reading images where their files tell."""
    digest = blake2b(digest_size=DIGEST)
    for row in rows:
        digest.update(_mark(source, row) + b"/")
    return digest.hexdigest()


def _mark(source: Source, number: int) -> bytes:
    try:
        row = source[number]
        return (row.image.mark() or row.image.read()) + row.text.encode(errors="surrogatepass")
    except (RowError, OSError, ValueError):
        return b"unreadable"


def finished(target: Target, source: Source, shards: Sequence[Shard]) -> dict[int, ShardStats]:
    """The statistics of the shards that are done, by number.

    Warns of shards that are damaged or cut, and of those whose images have changed: they are written again. Where
    images are gone, the shard stays.
    """
    known = [(shard, stats) for shard in shards if (stats := target.stats(shard.number)) is not None]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        states = pool.map(lambda one: _state(target, source, *one), known)
        found = list(tqdm(states, "checking shards", len(known), unit=" shards", disable=len(known) < MANY))
    _say(target, known, found, "damaged", "is not as it was written; it is written again")
    _say(target, known, found, "changed", "was made of images or texts that have changed since; it is written again")
    _say(target, known, found, "gone", "was made of images that cannot be read any more; it stays as it is")
    return {shard.number: stats for (shard, stats), state in zip(known, found, strict=True) if state in ("", "gone")}


def _state(target: Target, source: Source, shard: Shard, stats: ShardStats) -> str:
    if not target.holds(shard.number, stats):
        return "damaged"
    if not stats.digests or stats.marks == marks_of(source, shard.rows):
        return ""  # the statistics of versions up to 0.2 do not say what a shard was made of
    if len(stats.digests) != len(shard.rows):
        return "changed"
    now = [_digest(source, row) for row in shard.rows]
    changed = [old and new != old for old, new in zip(stats.digests, now, strict=True)]
    if any(old and not new for old, new in zip(stats.digests, now, strict=True)):
        return "gone"
    return "changed" if any(changed) else ""


def _digest(source: Source, number: int) -> str:
    try:
        row = source[number]
        return digest_of(row.image.read(), row.text)
    except (RowError, OSError, ValueError):
        return ""


def _say(
    target: Target, known: Sequence[tuple[Shard, ShardStats]], found: Sequence[str], state: str, words: str
) -> None:
    names = [target.shard(shard.number).name for (shard, _), one in zip(known, found, strict=True) if one == state]
    if names:
        more = f" (and {len(names) - 1} more such shards)" if len(names) > 1 else ""
        message = f"{names[0]!r} in {str(target.folder)!r} {words}{more}."
        warnings.warn(message, MaquetteWarning, stacklevel=4)
