"""Declarative settings: a field of a frozen dataclass states its default, description, range and dependencies.

Checks, command-line flags with their help, and the tables of the documentation are derived from it.
"""

import types
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from maquette.errors import MaquetteError
from maquette.foundation.settings import in_digits, problem

REQUIRED: Any = MISSING


class When(NamedTuple):
    """A condition on a whole configuration."""

    words: str  # the condition, as help texts put it
    holds: Callable[[Any], bool]


def setting(default: Any, words: str, low: float | None = None, high: float | None = None, **more: Any) -> Any:
    """A field that is a setting: its default (`REQUIRED` for none), a description with its unit, and its range.

    Args:
        low, high: inclusive bounds of a number.
        more: any other field of `Setting`.
    """
    return field(default=default, metadata={"words": words, "low": low, "high": high, **more})


@dataclass(frozen=True)
class Setting:
    """A setting as declared."""

    name: str
    part: str | None  # the table it belongs to; None for the top level
    hint: Any
    default: Any
    words: str = ""  # its description
    low: float | None = None
    high: float | None = None
    above: float | None = None  # exclusive bounds
    below: float | None = None
    check: Callable[[Any], str | None] | None = None  # replaces the checks of type and range: a value's problem
    allowed: str = ""  # what `check` allows, for documentation
    needs: str | None = None  # the flat name of the setting without which this one has no effect
    may_differ: bool | When = False  # when a run is resumed
    flat: str = ""  # its name without a table; unique among all tables

    @property
    def path(self) -> str:
        """Its name in files and for `--set`: optimizer.learning_rate."""
        return f"{self.part}.{self.name}" if self.part else self.name

    @property
    def alternatives(self) -> tuple[Any, ...]:
        """Types that its value may have, other than None."""
        hints = get_args(self.hint) if get_origin(self.hint) in (Union, types.UnionType) else (self.hint,)
        return tuple(hint for hint in hints if hint is not types.NoneType)

    @property
    def range(self) -> str:
        """The values allowed, for documentation."""
        if self.allowed:
            return self.allowed
        bounds = [
            *([] if self.low is None or self.high is not None else [f"{self.low:g} or more"]),
            *([] if self.low is None or self.high is None else [f"{self.low:g} to {in_digits(self.high)}"]),
            *([] if self.above is None else [f"above {self.above:g}"]),
            *([] if self.below is None else [f"below {self.below:g}"]),
        ]
        plain = [getattr(hint, "__name__", str(hint)) for hint in self.alternatives if get_origin(hint) is None]
        return ", ".join([*(bounds or plain), *self.choices])

    @property
    def usual(self) -> str:
        """The default in TOML's notation where it has one; empty if there is no default."""
        if self.default is None or self.default is REQUIRED:
            return ""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    @property
    def choices(self) -> list[str]:
        """Its literal choices."""
        return [word for hint in self.alternatives if get_origin(hint) is Literal for word in get_args(hint)]

    def may_differ_in(self, config: Any) -> bool:
        """Whether a run may be resumed with a value other than it started with."""
        return self.may_differ.holds(config) if isinstance(self.may_differ, When) else self.may_differ

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, worded to follow the setting's name; None if it is valid."""
        if self.check is not None:
            return self.check(value)
        found = problem(value, self.hint, self.above if self.low is None else self.low, self.high)
        if found is None and self.above is not None and value == self.above:
            return f"is above {self.above:g}, not {value!r}"
        if found is None and self.below is not None and value is not None and value >= self.below:
            return f"is below {self.below:g}, not {value!r}"
        return found

    def read(self, value: Any) -> Any:
        """Convert a valid value to the type of the field: strings to paths and back, lists to tuples."""
        if isinstance(value, str) and Path in self.alternatives:
            return Path(value)
        if isinstance(value, Path) and str in self.alternatives:
            return str(value)
        return tuple(value) if isinstance(value, list) else value


def settings_of(declared: type) -> dict[str, Setting]:
    """All settings of a class and its parts by flat name, in the order of the fields."""
    hints = get_type_hints(declared)
    found: dict[str, Setting] = {}
    for entry in fields(declared):
        hint = hints[entry.name]
        if isinstance(hint, type) and is_dataclass(hint):
            found |= {name: _within(entry.name, setting) for name, setting in settings_of(hint).items()}
        else:
            flat = entry.metadata.get("flat", entry.name)
            found[flat] = Setting(entry.name, None, hint, entry.default, **{**entry.metadata, "flat": flat})
    return found


def _within(part: str, setting: Setting) -> Setting:
    return Setting(**{**vars(setting), "part": part})


@dataclass(frozen=True)
class Declared:
    """Base of frozen dataclasses of `setting` fields that validate themselves.

    Raises `MaquetteError` with all problems at once.
    """

    def __post_init__(self) -> None:
        known = settings_of(type(self)).values()
        checks = [(setting.name, setting.problem(getattr(self, setting.name))) for setting in known]
        problems = [f"{name} {problem}" for name, problem in checks if problem] or list(self.unfit())
        if problems:
            raise MaquetteError("; ".join(problems) + ".")
        for setting in known:
            object.__setattr__(self, setting.name, setting.read(getattr(self, setting.name)))

    def unfit(self) -> Iterator[str]:
        """Problems of settings that are valid alone but not together; for subclasses to override."""
        yield from ()
