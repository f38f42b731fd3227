"""Processes that work for this one: each makes something of its own once, and uses it for every task."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any

import cv2
from PIL import _imaging

from maquette.foundation.memory import keep_freed

BLOCKS = 8  # of 16 MiB, that Pillow keeps of freed images
_own: list[Any] = []  # in a worker, the one thing that it made


@contextmanager
def processes(count: int, make: Callable[[], Any]) -> Iterator[ProcessPoolExecutor]:
    """A pool whose workers have each called `make`, and find what it gave by `own`.

    They are started afresh, not forked: a fork of a process with threads may hang. They end with this process, however
    that ends, and leave the keyboard's interrupt to it. When the block ends, tasks under way do, and no other begins.
    """
    pool = ProcessPoolExecutor(count, get_context("spawn"), _begin, (make,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def own() -> Any:
    """What this worker made."""
    return _own[0]


def settle() -> None:
    """Make the most of one core, in a process that works on images; its neighbours have the others."""
    cv2.setNumThreads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same of torch, which is not imported yet
    keep_freed()
    _imaging.set_blocks_max(BLOCKS)


def _begin(make: Callable[[], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    settle()
    _own.append(make())


def _end_with_parent() -> None:
    """A pool's workers wait for tasks for ever when the process that had them is killed."""
    parent = parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)
