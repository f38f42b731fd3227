"""Settings as a user gives them: in tables, by path (optimizer.learning_rate), or by their flat names alone."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, is_dataclass
from typing import Any

from maquette.foundation.declared import Setting, settings_of
from maquette.foundation.registry import unknown


@dataclass(frozen=True)
class Given:
    """Settings of a class, by flat name."""

    values: dict[str, Any]
    typed: dict[str, str]  # what the user called each
    problems: tuple[str, ...] = ()  # with names: unknown ones, and settings that were given twice

    @staticmethod
    def of(declared: type, settings: Mapping[str, Any], typed: Mapping[str, str] | None = None) -> "Given":
        """Sort settings by name into those of a class, flat names after all others.

        Args:
            declared: a class whose fields are settings, or parts that hold some.
            settings: a part's name may stand for a table of settings, or for the part made already; what is given
                beside a part made already takes the place of what the part has.
            typed: what the user typed for a setting, by its name in `settings`, where that is not its name.
        """
        known = settings_of(declared)
        paths = {one.path: flat for flat, one in known.items()}
        made = {name for name, value in settings.items() if is_dataclass(value)}
        values: dict[str, Any] = {}
        names: dict[str, str] = {}
        problems: list[str] = []
        for name, value in sorted(_spread(settings, known), key=lambda pair: pair[0] in known):
            flat = name if name in known else paths.get(name)
            if flat is None:
                problems.append(_unknown(name, known))
            elif flat in names and known[flat].part not in made:
                problems.append(f"{name} and {names[flat]} are the same setting; give one of them")
            else:
                values[flat], names[flat] = value, (typed or {}).get(name, name)
        return Given(values, names, tuple(problems))

    def over(self, before: "Given") -> "Given":
        """With what was given before, where it is not given here."""
        problems = (*before.problems, *self.problems)
        return Given({**before.values, **self.values}, {**before.typed, **self.typed}, problems)

    def missing(self, declared: type) -> list[str]:
        """Flat names of what must be given and is not."""
        known = settings_of(declared).items()
        return [flat for flat, one in known if one.default is MISSING and flat not in self.values]


def _spread(settings: Mapping[str, Any], known: Mapping[str, Setting]) -> Iterator[tuple[str, Any]]:
    """Settings with those in tables by their paths."""
    parts = {one.part for one in known.values()}
    for name, value in settings.items():
        if name in parts and (isinstance(value, Mapping) or is_dataclass(value)):
            table = value if isinstance(value, Mapping) else vars(value)
            yield from ((f"{name}.{key}", setting) for key, setting in table.items())
        else:
            yield name, value


def _unknown(name: str, known: Mapping[str, Setting]) -> str:
    parts = list(dict.fromkeys(one.part for one in known.values() if one.part))
    part, dot, _ = name.partition(".")
    if name in parts:
        return f"{name} is a table of settings: [{name}], or {name}.{_first(name, known)} = ..."
    if part in parts:
        return unknown("setting", name, [one.path for one in known.values() if one.part == part]).rstrip(".")
    return unknown("table", part, parts).rstrip(".") if dot else unknown("setting", name, list(known)).rstrip(".")


def _first(part: str, known: Mapping[str, Setting]) -> str:
    return next(one.name for one in known.values() if one.part == part)
