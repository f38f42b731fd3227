"""A key-value store of tensors in one file, shared by runs and processes.

A SQLite database in write-ahead mode: writes are atomic, several processes may write at the same time, and a killed
one leaves a valid file. Each entry begins with a checksum; those of versions up to 0.2 have none and are still read.
Keep the file on a local disk, not on a network drive.
"""

import contextlib
import hashlib
import os
import shutil
import sqlite3
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from maquette.errors import MaquetteError, MaquetteWarning

MOST = 10  # caches that may be in a folder, of which all but one are damaged
PATIENCE = 120  # seconds to wait for another process's write
DAMAGE = {
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_IOERR,  # of a file that was cut off
    sqlite3.SQLITE_ERROR,  # of one without the table
}  # fmt: skip
"""What SQLite says of a file that has changed; the rest is of locks, rights and room, and passes."""

AT_ONCE = 500  # keys per query; older SQLite versions allow 999
CHECKED = b"maquette"  # begins an entry, before its checksum; safetensors begin with a length that is smaller
CHECKSUM = 16  # bytes


class NotAStoreError(MaquetteError):
    """A file that is damaged, or a database of something else."""


def open_store(folder: Path) -> "Store":
    """The store in a folder; beside one that is none of ours or damaged, a new one.

    Raises `MaquetteError` if it cannot be opened for another reason.
    """
    for path in (folder / "cache.sqlite", *(folder / f"cache-{number}.sqlite" for number in range(2, MOST))):
        try:
            return Store(path)
        except NotAStoreError as error:
            warnings.warn(f"{error} The cache is built anew beside it.", MaquetteWarning, stacklevel=2)
    raise MaquetteError(f"None of the caches in {str(folder)!r} can be used; remove them.")


class Store:
    """A tensor store; each process opens its own connection, so stores can be pickled and forked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: dict[int, sqlite3.Connection] = {}  # by process id
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection()

    def get(self, key: bytes) -> dict[str, Tensor]:
        """The tensors of an entry by name, in any shape.

        Raises `KeyError` if there is no such entry. A damaged one is named and removed, and counts as none. Raises
        `MaquetteError` if the file cannot be read for another reason, such as a lock.
        """
        try:
            found = self._connection().execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
            if found is not None:
                return safetensors.torch.load(_content(key, found[0]))
        except sqlite3.Error as error:
            if not _is_damage(error):
                raise self._unreadable(error) from error
            self._remove(key, str(error))
        except (SafetensorError, ValueError, TypeError) as error:
            self._remove(key, str(error))
        raise KeyError(key)

    def _remove(self, key: bytes, reason: str) -> None:
        warnings.warn(
            f"An entry of {str(self.path)!r} is damaged ({reason}); it is computed anew.", MaquetteWarning, stacklevel=4
        )
        with contextlib.suppress(sqlite3.Error), self._connection() as connection:
            connection.execute("DELETE FROM entries WHERE key = ?", (key,))

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
        rows = [(key, _checked(key, safetensors.torch.save(dict(tensors)))) for key, tensors in entries]
        try:
            with self._connection() as connection:
                connection.executemany(f"INSERT OR {'REPLACE' if anew else 'IGNORE'} INTO entries VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            free = shutil.disk_usage(self.path.parent).free
            raise MaquetteError(
                f"{str(self.path)!r} could not be written ({error}; {free / 2**30:.1f} GiB free there); make room, "
                "or choose another folder."
            ) from error

    def present(self, keys: Sequence[bytes]) -> set[bytes]:
        """The subset of `keys` that have an entry.

        Raises `MaquetteError` if the file is damaged or cannot be read.
        """
        found: set[bytes] = set()
        for start in range(0, len(keys), AT_ONCE):
            chunk = keys[start : start + AT_ONCE]
            marks = ",".join("?" * len(chunk))
            try:
                rows = self._connection().execute(f"SELECT key FROM entries WHERE key IN ({marks})", chunk).fetchall()
            except sqlite3.Error as error:
                raise self._unreadable(error) from error
            found.update(row[0] for row in rows)
        return found

    def _unreadable(self, error: sqlite3.Error) -> MaquetteError:
        if _is_damage(error):
            return MaquetteError(f"{str(self.path)!r} is damaged ({error}); remove it to have it rebuilt.")
        return MaquetteError(
            f"{str(self.path)!r} cannot be read ({error}); end what else uses it, or see that it may be read, and "
            "start again."
        )

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
                connection.execute("SELECT key, value FROM entries LIMIT 0")
                return connection
            except sqlite3.DatabaseError as error:
                connection.close()
                if "locked" not in str(error) or time.monotonic() > deadline:
                    strange = not isinstance(error, sqlite3.OperationalError) or "no such column" in str(error)
                    raise (NotAStoreError if strange else MaquetteError)(
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
        return SizeStore(open_store(folder))

    def find(self, key: bytes) -> NDArray[np.int32] | None:
        """The sizes (rows, 2) under a key; None without any."""
        found = self.store.find(key)
        return None if found is None else found["sizes"].numpy()

    def put(self, key: bytes, sizes: NDArray[np.int32]) -> None:
        """Keep sizes (rows, 2), in place of those under the same key."""
        self.store.put([(key, {"sizes": torch.from_numpy(sizes)})], anew=True)


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in DAMAGE  # the rest of a code are details


def _checked(key: bytes, content: bytes) -> bytes:
    return CHECKED + _checksum(key, content) + content


def _content(key: bytes, value: bytes) -> bytes:
    """An entry without its checksum. Raises `ValueError` if that does not match."""
    if not value.startswith(CHECKED):  # of a version up to 0.2
        return value
    start = len(CHECKED) + CHECKSUM
    if value[len(CHECKED) : start] != _checksum(key, value[start:]):
        raise ValueError("its checksum does not match")
    return value[start:]


def _checksum(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECKSUM, key=key).digest()
