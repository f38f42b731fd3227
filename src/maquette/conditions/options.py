"""Options of detectors: frozen dataclasses whose fields say what they mean and from where to where they go."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, Self, get_args, get_origin, get_type_hints

from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown
from maquette.foundation.settings import problem


def option(default: Any, words: str, low: float | None = None, high: float | None = None) -> Any:
    """A field of options: its default, what it means with its unit, and its range, both ends allowed."""
    return field(default=default, metadata={"words": words, "low": low, "high": high})


class Described(NamedTuple):
    name: str
    default: Any
    range: str
    words: str


@dataclass(frozen=True)
class Options:
    """What may be asked of a detector; one that has none uses this class itself.

    Raises `MaquetteError` with all that is wrong at once.
    """

    def __post_init__(self) -> None:
        problems = list(self._unsound()) or list(self.unfit())
        if problems:
            raise MaquetteError("; ".join(problems) + ".")

    def unfit(self) -> Iterator[str]:
        """What is sound alone and not together, in words; for subclasses."""
        yield from ()

    @classmethod
    def given(cls, detector: str, values: Mapping[str, Any]) -> Self:
        """From values by name; `MaquetteError` names an option that a detector does not have."""
        known = [one.name for one in fields(cls)]
        for name in values:
            if name not in known:
                raise MaquetteError(unknown(f"option of {detector}", name, known))
        try:
            return cls(**values)
        except MaquetteError as error:
            raise MaquetteError(f"{detector}: {error}") from None

    @classmethod
    def described(cls) -> list[Described]:
        """Each option as a table shows it."""
        return [
            Described(one.name, one.default, _range(one.metadata, get_type_hints(cls)[one.name]), one.metadata["words"])
            for one in fields(cls)
        ]

    def _unsound(self) -> Iterator[str]:
        hints = get_type_hints(type(self))
        for one in fields(self):
            words = problem(getattr(self, one.name), hints[one.name], one.metadata["low"], one.metadata["high"])
            if words:
                yield f"{one.name} {words}"


def _range(metadata: Mapping[str, Any], hint: Any) -> str:
    low, high = metadata["low"], metadata["high"]
    if get_origin(hint) is Literal:
        return ", ".join(get_args(hint))
    if low is None and high is None:
        return str(getattr(hint, "__name__", hint))
    return f"{low:g} or more" if high is None else f"{low:g} to {high:g}"
