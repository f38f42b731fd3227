"""Several computations at once: the rows that they give a network run as one batch, with the bits that each has alone.

    Together().run([first, second])  # functions; where each calls `shared(network, ...)`, their rows meet

Sums of matrix products come out in another order where a matrix has more rows, so that a picture in a batch differs in
its last bits from the same made alone. Which operations do so depends on the machine: on CPUs those of few rows, and
group norms that several threads share. `by_picture` computes them picture by picture, and `Together` tries each new
shape both ways: only where every bit agrees is it computed at once from then on.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

FEW = 64  # rows of a matrix, from which on a CPU's products are as those of more rows
Network = Callable[..., Any]


class Rows(Protocol):
    """Tensors by name, the rows of a batch in each."""

    def tensors(self) -> dict[str, Tensor]: ...

    def like(self, tensors: dict[str, Tensor]) -> Self: ...


class _Here(threading.local):
    pictures = 1  # whose rows a network computes at once
    task: "_Task | None" = None


_here = _Here()


def shared(network: Network, *given: Any) -> Any:
    """`network(*given)`, with the rows of others that wait for the same where this runs in a `Together`.

    Args:
        given: tensors (B, ...), `Rows` of B, tensors () and None; what is returned is a tensor (B, ...) or `Rows` too.
    """
    return network(*given) if _here.task is None else _here.task.meet(network, given)


@contextmanager
def apart() -> Iterator[None]:
    """Meanwhile networks run at once in this thread, as outside of a `Together`."""
    task, _here.task = _here.task, None
    try:
        yield
    finally:
        _here.task = task


def rows_of_one(x: Tensor) -> int:
    """The rows of x (B, ...) that one picture has."""
    return len(x) // _here.pictures if len(x) % _here.pictures == 0 else len(x)


def by_picture(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`forward` of x (B, ...), by pictures where a batch of them would come out with other bits."""
    rows = rows_of_one(x)
    if rows == len(x) or (x.ndim == 3 and rows * x.shape[1] >= FEW):
        return forward(x)
    return torch.cat([forward(part) for part in x.split(rows)])


class Together:
    """Runs computations by turns, each in a thread of its own, of which one at a time computes."""

    def __init__(self) -> None:
        self._alike: WeakKeyDictionary[Any, dict[Any, bool]] = WeakKeyDictionary()
        """Of each network, as long as it is there: whether on some shapes it has the bits of single runs."""
        self._joined: dict[Any, tuple[list[Any], Any]] = {}  # the last text of each, which steps have in common

    def run(
        self,
        works: Sequence[Callable[[], None]],
        around: Callable[[int], AbstractContextManager[Any]] = lambda number: nullcontext(),
    ) -> None:
        """Run functions to their ends, a single one in the caller's thread.

        Raises what one of them raised, when all are done.

        Args:
            around: a context for each turn of a function, by its number, in the caller's thread.
        """
        if len(works) == 1:
            with around(0):
                works[0]()
            return
        tasks = [_Task(work) for work in works]
        for task in tasks:
            threading.Thread(target=task.main, name="maquette-together", daemon=True).start()
        while waiting := [task for task in tasks if not task.ended]:
            for number, task in enumerate(tasks):
                if not task.ended:
                    with around(number):
                        task.go_on()
            self._answer([task for task in waiting if not task.ended])
        self._joined.clear()
        for error in [task.error for task in tasks if task.error is not None]:
            raise error

    def _answer(self, tasks: Sequence["_Task"]) -> None:
        groups: dict[Any, list[_Task]] = {}
        for task in tasks:
            groups.setdefault((task.network, *map(_shape, task.given)), []).append(task)
        for kind, group in groups.items():
            try:
                answers = self._at_once(kind, group[0].network, [task.given for task in group])
            except Exception as error:
                for task in group:
                    task.failure = error
            else:
                for task, answer in zip(group, answers, strict=True):
                    task.answer = answer

    @torch.no_grad()
    def _at_once(self, kind: Any, network: Network, calls: Sequence[Sequence[Any]]) -> list[Any]:
        """What a network says to each of several calls of one kind."""
        known = self._alike.setdefault(getattr(network, "__self__", network), {})
        shapes = (getattr(network, "__name__", ""), *kind[1:], len(calls))
        if len(calls) == 1 or known.get(shapes) is False:
            return [network(*given) for given in calls]
        rows = len(calls[0][0])
        columns = [self._column((kind, number), parts, rows) for number, parts in enumerate(zip(*calls, strict=True))]
        with _pictures(len(calls)):
            whole = network(*columns)
        answers = [_part(whole, slice(first, first + rows)) for first in range(0, rows * len(calls), rows)]
        if shapes not in known:
            alone = [network(*given) for given in calls]
            known[shapes] = all(map(_equal, answers, alone))
            return alone
        return answers

    def _column(self, key: Any, parts: Sequence[Any], rows: int) -> Any:
        """One argument of several calls as one; that of texts is kept, as what networks compute of it is."""
        first = parts[0]
        if first is None or isinstance(first, Tensor):
            return None if first is None else torch.cat([_full(part, rows) for part in parts])
        named = [part.tensors() for part in parts]
        found = [value for part in named for value in part.values()]
        kept = self._joined.get(key)
        if kept is None or not all(map(_same, kept[0], found)):
            joined = {name: torch.cat([_full(part[name], rows) for part in named]) for name in named[0]}
            self._joined[key] = kept = (found, first.like(joined))
        return kept[1]


class _Task:
    """A computation that pauses where it calls a network, until it is answered."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work, self.ended = work, False
        self.error: BaseException | None = None
        self.network: Network = _never
        self.given: Sequence[Any] = ()
        self.answer: Any = None
        self.failure: Exception | None = None
        self._turn, self._paused = threading.Semaphore(0), threading.Semaphore(0)

    def main(self) -> None:
        self._turn.acquire()
        _here.task = self
        try:
            self._work()
        except BaseException as error:
            self.error = error
        finally:
            _here.task, self.ended = None, True
            self._paused.release()

    def go_on(self) -> None:
        """Have it compute until it ends or pauses."""
        self._turn.release()
        self._paused.acquire()

    def meet(self, network: Network, given: Sequence[Any]) -> Any:
        """Pause until the network's answer is there."""
        self.network, self.given = network, given
        self._paused.release()
        self._turn.acquire()
        answer, failure, self.given, self.answer, self.failure = self.answer, self.failure, (), None, None
        if failure is not None:
            raise failure
        return answer


def _never(*_: Any) -> Any:
    raise AssertionError("a task that calls no network is not answered")


@contextmanager
def _pictures(count: int) -> Iterator[None]:
    _here.pictures = count
    try:
        yield
    finally:
        _here.pictures = 1


def _shape(value: Any) -> Any:
    """What the choice of a computation depends on, of an argument."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.stride(), value.dtype
    return value and tuple((name, _shape(one)) for name, one in value.tensors().items())


def _full(value: Tensor, rows: int) -> Tensor:
    """A tensor () or (1 or rows, ...) as (rows, ...)."""
    return value.expand(rows, *value.shape[1:])


def _part(value: Any, rows: slice) -> Any:
    if isinstance(value, Tensor):
        return value[rows]
    return value.like({name: one[rows] for name, one in value.tensors().items()})


def _equal(value: Any, other: Any) -> bool:
    """Whether two answers have the same bits."""
    if isinstance(value, Tensor):
        return torch.equal(value, other)
    theirs = other.tensors()
    return all(torch.equal(one, theirs[name]) for name, one in value.tensors().items())


def _same(kept: Tensor, other: Tensor) -> bool:
    """Whether two tensors of any shape are the same memory; one that is kept has not been written to."""
    return kept.data_ptr() == other.data_ptr() and kept.shape == other.shape and kept.stride() == other.stride()
