"""A range of seeds as a data set: rendered once by all cores, kept in shards, read back as arrays."""

import json
import os
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from maquette.diorama.scene import SIZE, scene
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.files import atomic_write

VERSION = 1
"""Raised whenever a seed comes to mean another scene, so that no stale shard is read."""

SHARD = 500  # scenes
MOST_PEOPLE = 4  # a scene's things at most

TRAIN, VALIDATION, TEST = 0, 10_000_000, 20_000_000
"""First seeds of three ranges that never meet."""


def prepare(seeds: range, folder: Path, processes: int | None = None) -> None:
    """Render the shards that `seeds` touch and that are not in `folder` yet (about 25 ms a scene and core).

    Several shards are rendered by processes of their own, which never import the caller's script.

    Raises `MaquetteError` when one of those processes dies.
    """
    missing = [start for start in _shards(seeds) if not _path(folder, start).exists()]
    if len(missing) <= 1:  # not worth other processes
        for start in missing:
            _render_shard(folder, start, SHARD)
        return
    count = min(processes or os.cpu_count() or 1, len(missing))
    command = [sys.executable, "-m", "maquette.diorama.dataset", str(folder), str(SHARD)]
    workers = [subprocess.Popen([*command, *map(str, missing[number::count])]) for number in range(count)]
    with tqdm(total=len(missing), desc="rendering", unit=f" × {SHARD} scenes") as bar:
        while any(worker.poll() is None for worker in workers):
            time.sleep(0.2)
            bar.update(sum(_path(folder, start).exists() for start in missing) - bar.n)
        bar.update(sum(_path(folder, start).exists() for start in missing) - bar.n)
    if any(worker.returncode for worker in workers):
        raise MaquetteError(
            f"Rendering scenes into {str(folder)!r} failed; see above, and check the disk's free space."
        )


def load(seeds: range, folder: Path, field: str) -> NDArray[Any]:
    """One field of all scenes of `seeds`, first axis the scene.

    Fields: images (H, W, 3) uint8; depth (H, W) float16, metres; normals (H, W, 3) int8, 127 = 1;
    classes, colours (H, W) uint8; keypoints (4, 18, 3) float32, padded with zeros.
    """
    return np.concatenate([_read(folder, start, field)[_inside(seeds, start)] for start in _shards(seeds)])


def load_captions(seeds: range, folder: Path) -> list[str]:
    words: list[str] = []
    for start in _shards(seeds):
        words += json.loads(str(_read(folder, start, "captions")))[_inside(seeds, start)]
    return words


def _shards(seeds: range) -> Iterable[int]:
    assert seeds.step == 1 and len(seeds) > 0
    return range(seeds.start // SHARD * SHARD, seeds.stop, SHARD)


def _inside(seeds: range, start: int) -> slice:
    """Which rows of the shard at `start` belong to `seeds`."""
    return slice(max(seeds.start - start, 0), min(seeds.stop - start, SHARD))


def _path(folder: Path, start: int) -> Path:
    return folder / f"world-{VERSION}" / f"{start:09d}.npz"


def _read(folder: Path, start: int, field: str) -> NDArray[Any]:
    """A field of a shard, which is rendered again if it is damaged: its parts have checksums."""
    path = _path(folder, start)
    try:
        return _field(path, field)
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, struct.error, zipfile.BadZipFile) as error:
        message = f"The scenes in {str(path)!r} are damaged ({error}); they are rendered again."
        warnings.warn(message, MaquetteWarning, stacklevel=3)
        _render_shard(folder, start, SHARD)
        return _field(path, field)


def _field(path: Path, field: str) -> NDArray[Any]:
    with path.open("rb") as stream, np.load(stream) as archive:  # NumPy leaves a damaged file open
        found: NDArray[Any] = archive[field]
        return found


def _render_shard(folder: Path, start: int, count: int) -> None:
    scenes = [scene(seed) for seed in range(start, start + count)]
    keypoints = np.zeros((count, MOST_PEOPLE, 18, 3), np.float32)
    for row, one in enumerate(scenes):
        keypoints[row, : len(one.keypoints)] = one.keypoints
    with atomic_write(_path(folder, start)) as path:
        np.savez(
            path,
            images=_stack([np.asarray(one.image) for one in scenes]),
            depth=_stack([one.depth.astype(np.float16) for one in scenes]),
            normals=_stack([np.round(one.normals * 127).astype(np.int8) for one in scenes]),
            classes=_stack([one.classes for one in scenes]),
            colours=_stack([one.colours for one in scenes]),
            keypoints=keypoints,
            captions=np.array(json.dumps([one.caption for one in scenes])),
        )


def _stack(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    assert rows[0].shape[:2] == (SIZE, SIZE)
    return np.stack(rows)


if __name__ == "__main__":  # as `prepare` calls it: the folder, scenes of a shard, then first seeds of shards
    for first in sys.argv[3:]:
        _render_shard(Path(sys.argv[1]), int(first), int(sys.argv[2]))
