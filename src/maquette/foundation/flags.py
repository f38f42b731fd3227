"""Settings as users give them: in tables, by flat names, and as command line flags."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from maquette.foundation.declared import Setting, settings_of
from maquette.foundation.registry import unknown
from maquette.foundation.settings import read_value


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


PLAIN = (int, float, str, bool, Path)


def flag(setting: Setting) -> str:
    """The flag of a setting: --learning-rate."""
    return "--" + setting.flat.replace("_", "-")


def with_flags(
    command: Callable[..., None], settings: Iterable[Setting], required: tuple[str, ...] = ()
) -> Callable[..., None]:
    """Replace the `**flags` of a command by one flag per setting, passed by flat name; None where it was not typed.

    Args:
        required: flat names of required flags.
    """
    signature = inspect.signature(command)
    kept = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = [*kept, *(_parameter(setting, setting.flat in required) for setting in settings)]
    parameters.sort(key=lambda parameter: parameter.kind)

    def run(**arguments: Any) -> None:
        command(**arguments)

    run.__doc__, run.__name__ = command.__doc__, command.__name__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


def read_flags(flags: Mapping[str, Any], settings: Iterable[Setting]) -> dict[str, Any]:
    """The flags that were typed, by flat name; values of more than one possible type are parsed as TOML."""
    typed = [(setting, flags[setting.flat]) for setting in settings if flags[setting.flat] is not None]
    return {s.flat: s.read(read_value(value)) if _type(s) is None else value for s, value in typed}


def _type(setting: Setting) -> type | None:
    """The type that the command line parses; None if there is more than one."""
    if len(setting.alternatives) > 1:
        return None
    return next((hint for hint in setting.alternatives if hint in PLAIN), str if setting.choices else None)


def _parameter(setting: Setting, required: bool) -> inspect.Parameter:
    kind = _type(setting) or str
    default_text = "" if required or kind is bool else setting.usual
    option = typer.Option(
        f" /--no-{flag(setting)[2:]}" if setting.default is True else flag(setting),
        help=setting.words,
        metavar=_metavar(setting),
        show_default=default_text or False,
        rich_help_panel=setting.part,
    )
    annotation: Any = Annotated[kind if required else kind | None, option]
    default = inspect.Parameter.empty if required else None
    return inspect.Parameter(setting.flat, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _metavar(setting: Setting) -> str | None:
    """The placeholder of the value in the help; None for that of its type."""
    mixed = _type(setting) is None
    if not setting.choices:
        return "VALUE" if mixed else None
    types = [hint.__name__ for hint in setting.alternatives if hint in PLAIN] if mixed else []
    return "|".join([*types, *setting.choices])
