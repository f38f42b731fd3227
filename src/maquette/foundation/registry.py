"""Names for things of one kind; an unknown name is answered with the nearest known ones."""

import difflib
import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from maquette.errors import MaquetteError

T = TypeVar("T")


@dataclass(frozen=True)
class Deferred:
    """An entry that is not imported yet."""

    path: str  # module:attribute

    def load(self) -> object:
        module, _, attribute = self.path.partition(":")
        return getattr(importlib.import_module(module), attribute)


class Registry(Generic[T]):
    def __init__(self, kind: str) -> None:
        self.kind = kind  # "detector", as error messages say it
        self._entries: dict[str, T | Deferred] = {}

    def add(self, name: str, entry: T, *, anew: bool = False) -> T:
        assert anew or name not in self._entries, f"{self.kind} {name!r} is registered twice"
        self._entries[name] = entry
        return entry

    def add_lazily(self, name: str, path: str) -> None:
        """An entry that is imported when it is first asked for, from "module:attribute"."""
        assert name not in self._entries, f"{self.kind} {name!r} is registered twice"
        self._entries[name] = Deferred(path)

    def __getitem__(self, name: str) -> T:
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
    """A sentence on a name that is not among the known ones."""
    return f"There is no {kind} {name!r}{nearest(name, list(known))}."


def nearest(name: object, known: list[str]) -> str:
    """How a sentence on an unknown name goes on: the one that may have been meant, and all of them."""
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"{hint} Known: {', '.join(known)}"
