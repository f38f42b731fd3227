"""A key-value store of tensors in one file, shared by runs and processes.

A SQLite database in write-ahead mode: writes are atomic, several processes may write at the same time, and a killed
one leaves a valid file. Keep the file on a local disk, not on a network drive.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.errors import MaquetteError

PATIENCE = 120  # seconds to wait for another process's write
FILE = "cache.sqlite"  # of a cache folder
AT_ONCE = 500  # keys per query; older SQLite versions allow 999


class Store:
    """A tensor store; each process opens its own connection, so stores can be pickled and forked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: dict[int, sqlite3.Connection] = {}  # by process id
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection()

    def get(self, key: bytes) -> dict[str, Tensor]:
        """The tensors of an entry by name, in any shape.

        Raises `KeyError` if there is no such entry.
        """
        found = self._connection().execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
        if found is None:
            raise KeyError(key)
        return safetensors.torch.load(found[0])

    def find(self, key: bytes) -> dict[str, Tensor] | None:
        """The tensors of an entry by name, in any shape; None if there is no such entry."""
        try:
            return self.get(key)
        except KeyError:
            return None

    def put(self, entries: Iterable[tuple[bytes, Mapping[str, Tensor]]], anew: bool = False) -> None:
        """Add entries atomically; existing keys are left unchanged, or with `anew` written again.

        Args:
            entries: a key and its tensors by name, in any shape.

        Raises `MaquetteError` if the file cannot be written.
        """
        rows = [(key, safetensors.torch.save(dict(tensors))) for key, tensors in entries]
        try:
            with self._connection() as connection:
                connection.executemany(f"INSERT OR {'REPLACE' if anew else 'IGNORE'} INTO entries VALUES (?, ?)", rows)
        except sqlite3.OperationalError as error:
            free = shutil.disk_usage(self.path.parent).free
            raise MaquetteError(
                f"{str(self.path)!r} could not be written ({error}; {free / 2**30:.1f} GiB free there); make room, "
                "or choose another folder."
            ) from error

    def present(self, keys: Sequence[bytes]) -> set[bytes]:
        """The subset of `keys` that have an entry."""
        found: set[bytes] = set()
        for start in range(0, len(keys), AT_ONCE):
            chunk = keys[start : start + AT_ONCE]
            marks = ",".join("?" * len(chunk))
            found.update(
                row[0] for row in self._connection().execute(f"SELECT key FROM entries WHERE key IN ({marks})", chunk)
            )
        return found

    def _connection(self) -> sqlite3.Connection:
        """The connection of this process; SQLite connections must not be used, or closed, across a fork."""
        if os.getpid() not in self._opened:
            self._opened[os.getpid()] = self._open()
        return self._opened[os.getpid()]

    def _open(self) -> sqlite3.Connection:
        """Retry while the file is locked: SQLite ignores its timeout while another process creates the file."""
        deadline = time.monotonic() + PATIENCE
        while True:
            connection = sqlite3.connect(self.path, timeout=PATIENCE)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
                return connection
            except sqlite3.DatabaseError as error:
                connection.close()
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise MaquetteError(
                        f"{str(self.path)!r} cannot be opened ({error}); remove it to have it rebuilt, or use another."
                    ) from error
            time.sleep(0.05)

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_opened": {}}


@dataclass(frozen=True)
class SizeStore:
    """Sizes of images in a tensor store (`data.sizes.Kept`)."""

    store: Store

    @staticmethod
    def at(folder: Path) -> "SizeStore":
        """In the store of a cache folder."""
        return SizeStore(Store(folder / FILE))

    def find(self, key: bytes) -> NDArray[np.int32] | None:
        """The sizes (rows, 2) under a key; None without any."""
        found = self.store.find(key)
        return None if found is None else found["sizes"].numpy()

    def put(self, key: bytes, sizes: NDArray[np.int32]) -> None:
        """Keep sizes (rows, 2), in place of those under the same key."""
        self.store.put([(key, {"sizes": torch.from_numpy(sizes)})], anew=True)
