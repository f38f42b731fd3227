"""Files that are written whole or not at all, and checks of where they will go."""

import contextlib
import itertools
import os
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from maquette.errors import MaquetteError

LOCK, OWNER = ".lock", ".owner"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it when the block succeeds and removed when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp creates private files
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())  # on disk before it gets its name, in case of a crash
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_pngs(paths: Sequence[Path]) -> None:
    """Check that the paths are distinct writable PNG files.

    Raises `MaquetteError` for a path that is not.
    """
    for path in paths:
        if path.suffix.lower() != ".png":
            raise MaquetteError(
                f"Results are PNG files, which can record how they were generated; {str(path)!r} is not one."
            )
    check_results(paths)


def check_new(paths: Sequence[Path]) -> None:
    """Raises `MaquetteError` if one of the paths exists already."""
    existing = [str(path) for path in paths if path.exists()]
    if existing:
        others = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise MaquetteError(f"{existing[0]!r}{others} exists already; give another --output, or --overwrite.")


def numbered(path: Path, first: int = 1) -> Iterator[Path]:
    """The path with a number after its stem: out-1.png, out-2.png and so on."""
    return (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(first))


def check_results(paths: Sequence[Path]) -> None:
    """Check that the paths are distinct writable files.

    Raises `MaquetteError` for a path that is not.
    """
    duplicates = [str(path) for path, count in Counter(paths).items() if count > 1]
    if duplicates:
        raise MaquetteError(f"Two results would be written to {duplicates[0]!r}; rename one of the images.")
    for path in paths:
        if path.is_dir():
            raise MaquetteError(f"{str(path)!r} is a folder; give the path of a file.")
        if not _first_existing(path.parent).is_dir():
            raise MaquetteError(f"{str(path)!r} cannot be written: {str(_first_existing(path.parent))!r} is a file.")
    for folder in {_first_existing(path.parent) for path in paths}:
        try:
            tempfile.TemporaryFile(
                dir=folder
            ).close()  # asking for permissions is not enough: the disk may be read-only
        except OSError as error:
            raise MaquetteError(f"Nothing can be written to the folder {str(folder)!r} ({error.strerror}).") from error


def _first_existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


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
