"""Tensors by key in one file: what was computed once is there for every run and every process.

A SQLite database in write-ahead mode: each entry is written whole or not at all, several processes may write at the
same time, and a killed one leaves what it had. The file belongs on a disk of the machine, not on a network's.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import safetensors.torch
from torch import Tensor

from maquette.errors import MaquetteError

PATIENCE = 120  # seconds that one process waits for another's writing
AT_ONCE = 500  # keys in a question, of the 999 that older SQLites take


class Store:
    """Opened anew in each process that uses it, so that it may be handed to others."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: dict[int, sqlite3.Connection] = {}  # by process
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection()

    def get(self, key: bytes) -> dict[str, Tensor]:
        """An entry's tensors by name; `KeyError` where there is none."""
        found = self._connection().execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
        if found is None:
            raise KeyError(key)
        return safetensors.torch.load(found[0])

    def put(self, entries: Iterable[tuple[bytes, Mapping[str, Tensor]]]) -> None:
        """Add entries, all or none; a key that is there stays as it is."""
        rows = [(key, safetensors.torch.save(dict(tensors))) for key, tensors in entries]
        try:
            with self._connection() as connection:
                connection.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?)", rows)
        except sqlite3.OperationalError as error:
            free = shutil.disk_usage(self.path.parent).free
            raise MaquetteError(
                f"{str(self.path)!r} could not be written ({error}; {free / 2**30:.1f} GiB are free there); make room, "
                "or name another folder."
            ) from error

    def present(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of the keys that have an entry."""
        found: set[bytes] = set()
        for start in range(0, len(keys), AT_ONCE):
            asked = keys[start : start + AT_ONCE]
            marks = ",".join("?" * len(asked))
            found.update(
                row[0] for row in self._connection().execute(f"SELECT key FROM entries WHERE key IN ({marks})", asked)
            )
        return found

    def _connection(self) -> sqlite3.Connection:
        """This process's own: a connection may not be used after a fork, nor closed there."""
        if os.getpid() not in self._opened:
            self._opened[os.getpid()] = self._open()
        return self._opened[os.getpid()]

    def _open(self) -> sqlite3.Connection:
        """Patiently: while another process makes the file, SQLite answers at once that it is locked."""
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
                        f"{str(self.path)!r} cannot be opened ({error}); remove it, it is made anew, or name another."
                    ) from error
            time.sleep(0.05)

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_opened": {}}
