"""Ctrl-C, SIGTERM and a closed terminal: finish the step, save a checkpoint, exit."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from maquette.training.distributed.world import World

HANG_UP = getattr(signal, "SIGHUP", None)  # not on Windows
SIGNALS = (signal.SIGINT, signal.SIGTERM, *(() if HANG_UP is None else (HANG_UP,)))


@contextmanager
def stop_signal(world: World) -> Iterator[Callable[[], int]]:
    """Yields a function that returns the signal received by any process, or 0 for none.

    A second signal of the same kind goes to the previous handler; not so of a closed terminal, which is often told
    twice, by its shell and by the system. Python delivers signals to the main thread only; in other threads no handler
    is installed. A signal that is ignored, as SIGHUP is under `nohup`, stays so.
    """
    received = 0
    previous: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = number
        signal.signal(number, signal.SIG_IGN if number == HANG_UP else previous[number])

    if threading.current_thread() is threading.main_thread():
        handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        previous = {number: signal.signal(number, handle) for number in handled}
    try:
        yield lambda: world.all_reduce_max(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
