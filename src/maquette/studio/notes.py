"""Warnings of the library, told to whom they concern: each thread says whose work it does."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from maquette.errors import MaquetteWarning


class _Here(threading.local):
    tell: Callable[[str], None] | None = None


_here = _Here()
_others = warnings.showwarning  # where all other warnings go


@contextmanager
def noting(tell: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile `tell` is given the sentence of each `MaquetteWarning` of this thread, and of no other."""
    _listen()
    before, _here.tell = _here.tell, tell
    try:
        yield
    finally:
        _here.tell = before


def _listen() -> None:
    """Have warnings come here first; anew each time, since whoever catches warnings puts back what was before."""
    global _others
    warnings.simplefilter("always", MaquetteWarning)
    if warnings.showwarning is not _show:
        _others, warnings.showwarning = warnings.showwarning, _show


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if _here.tell is not None and issubclass(category, MaquetteWarning):
        _here.tell(str(message))
    else:
        _others(message, category, filename, lineno, file, line)
