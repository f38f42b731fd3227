"""The process's memory, as the C library manages it; torch is not imported for it."""

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8  # from malloc.h
LARGE = 2**26
"""Bytes of an array from which on memory counts more than time: the decoder's last feature maps at 512 × 512 pixels."""


@contextmanager
def importing() -> Iterator[None]:
    """Import large libraries without looking for garbage meanwhile: there is none, and it takes a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()  # what is imported stays, so that it need not be looked through later


@cache
def keep_freed() -> None:
    """Make glibc keep freed memory for later allocations; other C libraries are left alone.

    Otherwise the pages of every large array return to the system and are requested and zeroed again, which takes a
    tenth of the time of a training step on a CPU and of decoding an image. The largest, of which several would be kept
    where one of another size is needed, do return.
    """
    if (library := _glibc()) is not None:
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)  # bytes
        library.mallopt(MMAP_THRESHOLD, LARGE)


def return_freed() -> None:
    """Return what is kept to the system once, before arrays of other sizes are needed, which would not fit into it."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch says it by a class on a GPU only, and oneDNN says little."""
    words = ("can't allocate memory", "not enough memory", "out of memory", "could not create a primitive")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and any(word in str(error) for word in words))


def free_memory() -> int | None:
    """Bytes of the machine's memory, swap included, that this process may still take; None where Linux does not say it.

    What the process is limited to, by itself (`ulimit -v`) or with others (a control group), counts too.
    """
    try:
        import resource  # which Windows has not

        machine, own = (_fields(f"/proc/{name}") for name in ("meminfo", "self/status"))
        free = [machine["MemAvailable"] + machine.get("SwapFree", 0)]
        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        free += [most - own["VmSize"] + _kept()] if most != resource.RLIM_INFINITY else []
    except (ImportError, OSError, KeyError):
        return None
    return max(0, min([*free, *_free_in_group()]))


class _MallInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _NAMES = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in _NAMES]


def _kept() -> int:
    """Bytes that glibc holds in the process for later allocations, or 0 with another library."""
    library = _glibc()
    if library is None or not hasattr(library, "mallinfo2"):
        return 0
    library.mallinfo2.restype = _MallInfo
    return int(library.mallinfo2().fordblks)


def _fields(path: str) -> dict[str, int]:
    """Bytes by name, from lines such as "VmSize:  4 kB"."""
    rows = [line.split() for line in Path(path).read_text().splitlines()]
    return {row[0].rstrip(":"): 1024 * int(row[1]) for row in rows if row[-1:] == ["kB"]}


def _free_in_group() -> list[int]:
    """Bytes that the control group of this process may still take, if it has a limit; files that are kept count."""
    folder = Path("/sys/fs/cgroup")
    try:
        most, used = ((folder / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        rows = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return [int(most) - int(used) + int(rows.get("inactive_file", 0))] if most != "max" else []
    except (OSError, ValueError):
        return []


@cache
def share_arenas() -> None:
    """Make all threads of a server allocate from the same memory; other C libraries than glibc are left alone.

    Otherwise each of the threads that answer requests fills an arena of its own, up to eight for each core, and the
    process goes on growing for hundreds of pictures, though nothing is kept.
    """
    if (library := _glibc()) is not None:
        library.mallopt(ARENA_MAX, 2)


@cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
