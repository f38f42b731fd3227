"""Folders that one process at a time writes into."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from maquette.errors import MaquetteError

LOCK, OWNER = ".lock", ".owner"


@contextlib.contextmanager
def exclusive(folder: Path, state: Path | None = None) -> Iterator[None]:
    """Hold a folder for this process alone. The system lets go of the lock with the process, however it ends.

    Args:
        folder: for the message.
        state: where the lock is kept, by default in `folder`; it exists.

    Raises `MaquetteError` if another process holds it, naming that process and its machine.
    """
    kept = state or folder
    try:
        with FileLock(kept / LOCK, timeout=0):
            (kept / OWNER).write_text(f"process {os.getpid()} on {socket.gethostname()}")
            yield
            (kept / OWNER).unlink(missing_ok=True)
    except Timeout as error:
        owner = (kept / OWNER).read_text() if (kept / OWNER).exists() else "another process"
        raise MaquetteError(f"{str(folder)!r} is being written by {owner}; wait for it, or name another.") from error
