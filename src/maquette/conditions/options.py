"""Options of detectors: frozen dataclasses whose fields say what they mean and from where to where they go."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

from maquette.errors import MaquetteError
from maquette.foundation.declared import Declared, setting, settings_of
from maquette.foundation.registry import unknown

option = setting


class Described(NamedTuple):
    name: str
    default: Any
    range: str
    words: str


@dataclass(frozen=True)
class Options(Declared):
    """What may be asked of a detector; one that has none uses this class itself.

    Raises `MaquetteError` with all that is wrong at once.
    """

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
        return [Described(one.name, one.default, one.range, one.words) for one in settings_of(cls).values()]
