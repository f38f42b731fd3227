"""Work done ahead of the one who waits for it, in order and within bounds."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def in_order(pool: Executor, make: Callable[[Given], Made], given: Iterable[Given], ahead: int) -> Iterator[Made]:
    """What `make` makes of each thing, in their order; `ahead` of them are made, or wait to be, while one is used."""
    waiting: deque[Future[Made]] = deque()
    for one in given:
        waiting.append(pool.submit(make, one))
        if len(waiting) == ahead:
            yield waiting.popleft().result()
    yield from (one.result() for one in waiting)
