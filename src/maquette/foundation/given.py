"""Settings as users write them: in tables, by path (optimizer.learning_rate) or by flat name."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, is_dataclass
from typing import Any

from maquette.foundation.declared import Setting, settings_of
from maquette.foundation.registry import unknown


@dataclass(frozen=True)
class Given:
    """Settings of a class that a user has set, by flat name."""

    values: dict[str, Any]
    typed: dict[str, str]  # the name that the user typed for each
    problems: tuple[str, ...] = ()  # with names: unknown, or the same setting set twice

    @staticmethod
    def of(declared: type, settings: Mapping[str, Any], typed: Mapping[str, str] | None = None) -> "Given":
        """Resolve the names of settings, flat names after all others.

        Args:
            declared: a class whose fields are settings or parts with settings.
            settings: by name; a part's name takes a table of settings or an instance of the part, whose settings are
                overridden by those set beside it.
            typed: what the user typed for a setting, by its name in `settings`, if they differ.
        """
        known = settings_of(declared)
        paths = {setting.path: flat for flat, setting in known.items()}
        instances = {name for name, value in settings.items() if is_dataclass(value)}
        values: dict[str, Any] = {}
        names: dict[str, str] = {}
        problems: list[str] = []
        for name, value in sorted(_spread(settings, known), key=lambda pair: pair[0] in known):
            flat = name if name in known else paths.get(name)
            if flat is None:
                problems.append(_unknown(name, known))
            elif flat in names and known[flat].part not in instances:
                problems.append(f"{name} and {names[flat]} are the same setting; give one of them")
            else:
                values[flat], names[flat] = value, (typed or {}).get(name, name)
        return Given(values, names, tuple(problems))

    def over(self, before: "Given") -> "Given":
        """These settings over those set before."""
        problems = (*before.problems, *self.problems)
        return Given({**before.values, **self.values}, {**before.typed, **self.typed}, problems)

    def missing(self, declared: type) -> list[str]:
        """Flat names of required settings that are not set."""
        known = settings_of(declared).items()
        return [flat for flat, setting in known if setting.default is MISSING and flat not in self.values]


def _spread(settings: Mapping[str, Any], known: Mapping[str, Setting]) -> Iterator[tuple[str, Any]]:
    """Settings with tables flattened to paths."""
    parts = {setting.part for setting in known.values()}
    for name, value in settings.items():
        if name in parts and (isinstance(value, Mapping) or is_dataclass(value)):
            table = value if isinstance(value, Mapping) else vars(value)
            yield from ((f"{name}.{key}", setting) for key, setting in table.items())
        else:
            yield name, value


def _unknown(name: str, known: Mapping[str, Setting]) -> str:
    parts = list(dict.fromkeys(setting.part for setting in known.values() if setting.part))
    part, dot, _ = name.partition(".")
    if name in parts:
        return f"{name} is a table of settings: [{name}], or {name}.{_first(name, known)} = ..."
    if part in parts:
        paths = [setting.path for setting in known.values() if setting.part == part]
        return unknown("setting", name, paths).rstrip(".")
    return unknown("table", part, parts).rstrip(".") if dot else unknown("setting", name, list(known)).rstrip(".")


def _first(part: str, known: Mapping[str, Setting]) -> str:
    return next(setting.name for setting in known.values() if setting.part == part)
