"""Ctrl-C and SIGTERM: finish the step, save, leave."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from maquette.training.distributed.world import World

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def asked_to_stop(world: World) -> Iterator[Callable[[], int]]:
    """What gives the signal that came to any process, or 0; a second one of a kind does what it did before.

    Only a program's first thread hears signals; in another, training is stopped as that thread is.
    """
    heard = 0
    before: dict[int, Any] = {}

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        heard = number
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, hear) for number in SIGNALS}
    try:
        yield lambda: world.all_reduce_max(heard)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
