"""Registries of entries by name; an unknown name is answered with the closest known one."""

import difflib
import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from maquette.errors import MaquetteError, shortened

T = TypeVar("T")

MOST_LISTED = 24  # names that an error message lists; of more it gives the nearest
NEAREST = 5


@dataclass(frozen=True)
class Deferred:
    """An entry to be imported on first use."""

    path: str  # module:attribute

    def load(self) -> object:
        """Import the entry."""
        module, _, attribute = self.path.partition(":")
        return getattr(importlib.import_module(module), attribute)


class Registry(Generic[T]):
    """Entries of one kind by name, in order of registration."""

    def __init__(self, kind: str) -> None:
        self.kind = kind  # for error messages, such as "detector"
        self._entries: dict[str, T | Deferred] = {}

    def add(self, name: str, entry: T, *, anew: bool = False) -> T:
        """Register an entry; `anew` allows replacing one."""
        assert anew or name not in self._entries, f"{self.kind} {name!r} is registered twice"
        self._entries[name] = entry
        return entry

    def add_lazily(self, name: str, path: str) -> None:
        """Register "module:attribute", which is imported on first use."""
        assert name not in self._entries, f"{self.kind} {name!r} is registered twice"
        self._entries[name] = Deferred(path)

    def __getitem__(self, name: str) -> T:
        """The entry of a name. Raises `MaquetteError` for an unknown name."""
        if name not in self._entries:
            raise MaquetteError(unknown(self.kind, name, self._entries))
        entry = self._entries[name]
        if isinstance(entry, Deferred):
            entry = cast(T, entry.load())
            self._entries[name] = entry
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The error message for a name that is not among the known ones."""
    return f"There is no {kind} {shortened(repr(name))}{nearest(name, list(known))}."


def nearest(name: object, known: list[str]) -> str:
    """The end of an error message on an unknown name: the closest known name, and all known ones or the nearest few."""
    name = shortened(str(name))
    matches = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {matches[0]!r}?" if matches else "."
    if len(known) <= MOST_LISTED:
        return f"{hint} Known: {', '.join(known)}"
    few = difflib.get_close_matches(name, known, n=NEAREST, cutoff=0)
    return f"{hint} Nearest of the {len(known)} known: {', '.join(few)}"
