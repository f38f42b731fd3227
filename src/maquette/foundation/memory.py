"""The process's memory, as the C library manages it; torch is not imported for it."""

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

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
    if (library := glibc()) is not None:
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)  # bytes
        library.mallopt(MMAP_THRESHOLD, LARGE)


def return_freed() -> None:
    """Return what is kept to the system once, before arrays of other sizes are needed, which would not fit into it."""
    if (library := glibc()) is not None:
        library.malloc_trim(0)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch says it by a class on a GPU only, and oneDNN says little."""
    words = ("can't allocate memory", "not enough memory", "out of memory", "could not create a primitive")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and any(word in str(error) for word in words))


@cache
def share_arenas() -> None:
    """Make all threads of a server allocate from the same memory; other C libraries than glibc are left alone.

    Otherwise each of the threads that answer requests fills an arena of its own, up to eight for each core, and the
    process goes on growing for hundreds of pictures, though nothing is kept.
    """
    if (library := glibc()) is not None:
        library.mallopt(ARENA_MAX, 2)


@cache
def glibc() -> ctypes.CDLL | None:
    """The GNU C library, or None with another one."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
