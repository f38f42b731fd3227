"""Options of detectors: frozen dataclasses whose fields declare their meaning and range."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

from maquette.errors import MaquetteError
from maquette.foundation.declared import Declared, setting, settings_of
from maquette.foundation.registry import unknown

option = setting


class Described(NamedTuple):
    """An option as tables show it."""

    name: str
    default: Any
    range: str
    words: str


@dataclass(frozen=True)
class Options(Declared):
    """The options of a detector; a detector without options uses this class itself.

    Raises `MaquetteError` that lists every invalid value at once.
    """

    @classmethod
    def given(cls, detector: str, values: Mapping[str, Any]) -> Self:
        """Options from values by name. Raises `MaquetteError` for unknown names and invalid values."""
        known = [option.name for option in fields(cls)]
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
        return [Described(item.name, item.default, item.range, item.words) for item in settings_of(cls).values()]
