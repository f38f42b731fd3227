"""Command-line flags derived from declared settings, one each: `--learning-rate 3e-4`."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from maquette.foundation.declared import Setting
from maquette.foundation.settings import read_value

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
