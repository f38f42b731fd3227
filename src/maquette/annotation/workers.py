"""Worker processes, each with a state that it creates once and uses for every task."""

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

BLOCKS = 8  # of 16 MiB: freed image memory that Pillow keeps
_state: list[Any] = []  # in a worker, its one state


@contextmanager
def processes(count: int, make: Callable[[], Any]) -> Iterator[ProcessPoolExecutor]:
    """A pool whose workers have each called `make`, whose result `worker_state` returns there.

    Workers are spawned, since forking a process with threads may hang. They end with this process, however it ends,
    and ignore keyboard interrupts. When the block ends, running tasks finish and the others are cancelled.
    """
    pool = ProcessPoolExecutor(count, get_context("spawn"), _start, (make,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def worker_state() -> Any:
    """The state of this worker process."""
    return _state[0]


def limit_threads() -> None:
    """Use one core well: the other processes have the others. Freed memory is kept for the next image."""
    cv2.setNumThreads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for torch, which is not imported yet
    keep_freed()
    _imaging.set_blocks_max(BLOCKS)


def _start(make: Callable[[], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    limit_threads()
    _state.append(make())


def _end_with_parent() -> None:
    """Exit when the parent is killed; a pool's workers would wait for tasks forever."""
    parent = parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)
