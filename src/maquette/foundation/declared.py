"""Settings told once: a field of a frozen dataclass says its default, its words, its bounds, and what it needs.

Checks, flags of the command line, its help and the tables of the documentation follow from that.
"""

import types
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from maquette.errors import MaquetteError
from maquette.foundation.settings import problem

REQUIRED: Any = MISSING


class When(NamedTuple):
    """A condition that a whole configuration fulfils or not."""

    words: str
    holds: Callable[[Any], bool]


def setting(default: Any, words: str, low: float | None = None, high: float | None = None, **more: Any) -> Any:
    """A field that is a setting: its default (`REQUIRED` for none), what it means with its unit, and its range.

    Args:
        low, high: of numbers, both allowed.
        more: any other field of `Setting`.
    """
    return field(default=default, metadata={"words": words, "low": low, "high": high, **more})


@dataclass(frozen=True)
class Setting:
    """A setting as it was declared."""

    name: str
    part: str | None  # the table it stands in; None for the top
    hint: Any
    default: Any
    words: str = ""
    low: float | None = None
    high: float | None = None
    above: float | None = None  # a bound that is not allowed itself
    below: float | None = None
    check: Callable[[Any], str | None] | None = None  # in place of type and range: what is wrong with a value
    allowed: str = ""  # what that check allows, in words
    needs: str | None = None  # the flat name of the setting without which this one has no effect
    may_differ: bool | When = False  # in a run that is resumed
    flat: str = ""  # its name where no table is named; unique among all tables

    @property
    def path(self) -> str:
        """As files and `--set` name it: optimizer.learning_rate."""
        return f"{self.part}.{self.name}" if self.part else self.name

    @property
    def alternatives(self) -> tuple[Any, ...]:
        """Types that its value may have, other than None."""
        given = get_args(self.hint) if get_origin(self.hint) in (Union, types.UnionType) else (self.hint,)
        return tuple(hint for hint in given if hint is not types.NoneType)

    @property
    def range(self) -> str:
        """Which values are allowed, as a table shows it."""
        if self.allowed:
            return self.allowed
        bounds = [
            *([] if self.low is None or self.high is not None else [f"{self.low:g} or more"]),
            *([] if self.low is None or self.high is None else [f"{self.low:g} to {self.high:g}"]),
            *([] if self.above is None else [f"above {self.above:g}"]),
            *([] if self.below is None else [f"below {self.below:g}"]),
        ]
        plain = [getattr(hint, "__name__", str(hint)) for hint in self.alternatives if get_origin(hint) is None]
        return ", ".join([*(bounds or plain), *self.choices])

    @property
    def usual(self) -> str:
        """The default, as TOML has it where that can be said; empty where there is none."""
        if self.default is None or self.default is REQUIRED:
            return ""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    @property
    def choices(self) -> list[str]:
        """Words of which it may be one."""
        return [word for hint in self.alternatives if get_origin(hint) is Literal for word in get_args(hint)]

    def may_differ_in(self, config: Any) -> bool:
        """Whether a run may be resumed with another value than it was begun with."""
        return self.may_differ.holds(config) if isinstance(self.may_differ, When) else self.may_differ

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, as a sentence goes on after the setting's name; None where it is sound."""
        if self.check is not None:
            return self.check(value)
        words = problem(value, self.hint, self.above if self.low is None else self.low, self.high)
        if words is None and self.above is not None and value == self.above:
            return f"is above {self.above:g}, not {value!r}"
        if words is None and self.below is not None and value is not None and value >= self.below:
            return f"is below {self.below:g}, not {value!r}"
        return words

    def read(self, value: Any) -> Any:
        """A sound value in the type that the field has: paths and texts may be given for one another."""
        if isinstance(value, str) and Path in self.alternatives:
            return Path(value)
        if isinstance(value, Path) and str in self.alternatives:
            return str(value)
        return tuple(value) if isinstance(value, list) else value


def settings_of(declared: type) -> dict[str, Setting]:
    """All settings of a class by their flat names, those of its parts among them, in the order of its fields."""
    hints = get_type_hints(declared)
    found: dict[str, Setting] = {}
    for one in fields(declared):
        hint = hints[one.name]
        if isinstance(hint, type) and is_dataclass(hint):
            found |= {name: _within(one.name, part) for name, part in settings_of(hint).items()}
        else:
            flat = one.metadata.get("flat", one.name)
            found[flat] = Setting(one.name, None, hint, one.default, **{**one.metadata, "flat": flat})
    return found


def _within(part: str, one: Setting) -> Setting:
    return Setting(**{**vars(one), "part": part})


@dataclass(frozen=True)
class Declared:
    """Settings that check themselves; for subclasses that are frozen dataclasses of `setting`.

    Raises `MaquetteError` with all that is wrong at once.
    """

    def __post_init__(self) -> None:
        known = settings_of(type(self)).values()
        found = [(one.name, one.problem(getattr(self, one.name))) for one in known]
        problems = [f"{name} {words}" for name, words in found if words] or list(self.unfit())
        if problems:
            raise MaquetteError("; ".join(problems) + ".")
        for one in known:
            object.__setattr__(self, one.name, one.read(getattr(self, one.name)))

    def unfit(self) -> Iterator[str]:
        """What is sound alone and not together, in words; for subclasses."""
        yield from ()
