"""Files that are written whole or not at all, and checks of where they will go."""

import contextlib
import hashlib
import itertools
import os
import re
import shutil
import socket
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from maquette.errors import MaquetteError, MaquetteWarning

try:
    import fcntl
except ImportError:  # not on Windows, where a file that is open cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

LOCK, OWNER = ".lock", ".owner"
_OWNER = re.compile(r"process (\d{1,9}) on (.+)")
UNFINISHED = ".maquette-"  # in the names of files that are being written
_swept: set[Path] = set()  # folders in which this process has removed what killed writers left


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it when the block succeeds and removed when it fails.

    What killed writers have left in that folder is removed by the next one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    handle, temporary = _temporary(path)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp creates private files
        _sync(temporary)  # on disk before it gets its name, in case of a crash
        temporary.replace(path)
        if fcntl is not None:
            _sync(path.parent)  # and its name too: what is said to be written is there after a power cut
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_files(folder: Path) -> Iterator[Path]:
    """A temporary folder, whose files are moved to their places in `folder` when the block succeeds.

    Each file appears whole or not at all. What killed writers have left is removed by the next one.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name[:40]}{UNFINISHED}") as name:
        handle = os.open(name, os.O_RDONLY) if fcntl is not None else None
        try:
            if handle is not None:
                _lock(handle)
            yield Path(name)
            for path in sorted(path for path in Path(name).rglob("*") if path.is_file()):
                target = folder / path.relative_to(name)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.chmod(0o644)
                _sync(path)
                path.replace(target)
        finally:
            if handle is not None:
                os.close(handle)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _temporary(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, locked by this process, which tells `sweep` that its writer is alive."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:40]}{UNFINISHED}", suffix=path.suffix)
        _lock(handle)
        if os.fstat(handle).st_nlink:  # not swept by another before it was locked
            return handle, Path(name)
        os.close(handle)


def _lock(handle: int) -> bool:
    """Whether a file could be locked; no file of a file system without locks can, and none of a living writer."""
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def sweep(folder: Path) -> None:
    """Remove files that killed writers have left in a folder; once per process. Those of living writers stay."""
    folder = folder.absolute()
    if folder in _swept:
        return
    _swept.add(folder)
    for path in folder.glob(f".*{UNFINISHED}*"):
        with contextlib.suppress(OSError):  # another process has removed it, or may alone
            handle = os.open(path, os.O_RDONLY)
            try:
                if _lock(handle):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                os.close(handle)


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
    lock, owner = FileLock(kept / LOCK), kept / OWNER
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        name = owner.read_text("utf-8", errors="replace") if owner.exists() else "another process"
        raise MaquetteError(f"{str(folder)!r} is being written by {name}; wait for it, or name another.") from error
    except NotImplementedError:  # a file system without locks
        warnings.warn(
            f"The disk of {str(folder)!r} has no locks: see that nothing else writes there.",
            MaquetteWarning,
            stacklevel=3,
        )
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", "utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def holder(folder: Path) -> tuple[int, str] | None:
    """The process that holds a folder by `exclusive`, and its machine; None if none does."""
    owner = folder / OWNER
    named = _OWNER.fullmatch(owner.read_text("utf-8", errors="replace")) if owner.is_file() else None
    if named is None or (named[2] == socket.gethostname() and not _lives(int(named[1]))):
        return None  # the lock is not tried, so that a process that begins now finds it free
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, NotImplementedError):
        return int(named[1]), named[2]
    lock.release()
    return None


def _lives(process: int) -> bool:
    """Whether there is a process of that number on this machine; on Windows, which has no harmless way to ask, True."""
    if fcntl is None:
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def text_hash(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
