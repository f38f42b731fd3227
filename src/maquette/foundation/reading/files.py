"""Open regular files alone, and read no more of them than is meant to be there. This module does not import torch."""

import errno
import hashlib
import os
import re
import stat
from io import BufferedReader
from pathlib import Path

TEXT = 2**26  # bytes: the largest document
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_PART = 2**20  # bytes that are read at once of a file whose size is not what was stated
_MAY_LEAVE = re.compile(r"\.\.|^[/\\]|^[A-Za-z]:")  # how a path that leaves a folder is written
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class RefusedError(OSError):
    """What is no regular file, or larger than what is expected there. `strerror` says why."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(errno.EINVAL, reason, str(path))

    def __str__(self) -> str:
        return str(self.strerror)


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file, or a link to one, for reading.

    Raises `OSError` for a file that is missing or has a name that no file can have, and for pipes, devices and sockets:
    without opening them, as that may wait for ever or rewind a tape.
    """
    handle, _ = _opened(path)
    return os.fdopen(handle, "rb")


def _opened(path: str | Path) -> tuple[int, int]:
    """The descriptor of a regular file, and its size in bytes. Raises `OSError` as `open_regular` does."""
    try:
        _check_kind(path, os.stat(path))  # noqa: PTH116 - a data set's images pass here by the million
        handle = os.open(path, os.O_RDONLY | _AT_ONCE)
    except ValueError as error:  # NUL, or half of a surrogate pair
        raise RefusedError(ascii(str(path)), "no file can have this name") from error
    try:
        seen = os.fstat(handle)
        _check_kind(path, seen)  # it may have been replaced meanwhile
    except BaseException:
        os.close(handle)
        raise
    return handle, seen.st_size


def check_regular(path: str | Path, most: int | None = None) -> None:
    """Check a file that a library opens by its name.

    Args:
        most: its largest size in bytes.

    Raises `OSError` as `open_regular` does, and for a larger file.
    """
    handle, size = _opened(path)
    os.close(handle)
    if most is not None and size > most:
        raise _too_large(path, most)


def check_folder(folder: Path, endings: tuple[str, ...], most: int) -> None:
    """Check all files of a folder with one of the endings, which a library may open by their names.

    Raises `OSError` as `check_regular` does.
    """
    for path in folder.iterdir():
        if path.suffix in endings:
            check_regular(path, most)


def read_bytes(path: str | Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises `OSError` as `check_regular` does."""
    handle, size = _opened(path)
    try:
        if size > most:
            raise _too_large(path, most)
        content = os.read(handle, size + 1)
        while len(content) != size and len(content) <= most:  # it grows, or is made up as it is read
            if not (more := os.read(handle, _PART)):
                break
            content += more
    finally:
        os.close(handle)
    if len(content) > most:
        raise _too_large(path, most)
    return content


def read_text(path: str | Path, most: int = TEXT, errors: str = "strict") -> str:
    """The text of a regular file in UTF-8, with line breaks as they are.

    Args:
        errors: as for `bytes.decode`.

    Raises `OSError` as `read_bytes` does, and `UnicodeDecodeError` for other bytes.
    """
    return read_bytes(path, most).decode("utf-8", errors)


def _check_kind(path: str | Path, seen: os.stat_result) -> None:
    if not stat.S_ISREG(seen.st_mode):
        kind = _KINDS.get(stat.S_IFMT(seen.st_mode), "something else")
        raise RefusedError(path, f"is not a regular file but {kind}")


def _too_large(path: str | Path, most: int) -> RefusedError:
    return RefusedError(path, f"is larger than {most:,} bytes")


def inside(name: str, folder: Path) -> Path | None:
    """The path of a file that a file in `folder` names; None if it lies outside of the folder.

    Names are judged as they are written: a link inside of the folder may lead anywhere.
    """
    if not _MAY_LEAVE.search(name):
        return folder / name
    around, path = (Path(os.path.abspath(place)) for place in (folder, folder / name))  # noqa: PTH100 - follows no link
    return folder / name if path.is_relative_to(around) else None


def file_hash(path: str | Path) -> str:
    """SHA-256 of a regular file. Raises `OSError` as `open_regular` does."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
