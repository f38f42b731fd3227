"""Flags of a command line out of settings as they are declared, one each: `--learning-rate 3e-4`."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from maquette.foundation.declared import Setting
from maquette.foundation.settings import read_value

PLAIN = (int, float, str, bool, Path)


def flag(one: Setting) -> str:
    return "--" + one.flat.replace("_", "-")


def with_flags(
    command: Callable[..., None], settings: Iterable[Setting], required: tuple[str, ...] = ()
) -> Callable[..., None]:
    """A command whose `**flags` are these settings by their flat names, each None where it was not typed.

    Args:
        required: flat names of those that must be typed.
    """
    own = inspect.signature(command)
    kept = [one for one in own.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = [*kept, *(_parameter(one, one.flat in required) for one in settings)]
    parameters.sort(key=lambda one: one.kind)

    def run(**given: Any) -> None:
        command(**given)

    run.__doc__, run.__name__ = command.__doc__, command.__name__
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


def read_flags(given: Mapping[str, Any], settings: Iterable[Setting]) -> dict[str, Any]:
    """Those that were typed; values that may be of several kinds as TOML has them."""
    typed = [(one, given[one.flat]) for one in settings if given[one.flat] is not None]
    return {one.flat: one.read(read_value(value)) if _kind(one) is None else value for one, value in typed}


def _kind(one: Setting) -> type | None:
    """What the command line reads; None where a value may be of several kinds."""
    if len(one.alternatives) > 1:
        return None
    return next((hint for hint in one.alternatives if hint in PLAIN), str if one.choices else None)


def _parameter(one: Setting, required: bool) -> inspect.Parameter:
    kind = _kind(one) or str
    shown = "" if required or kind is bool else one.usual
    option = typer.Option(
        f" /--no-{flag(one)[2:]}" if one.default is True else flag(one),
        help=one.words,
        metavar=_metavar(one),
        show_default=shown or False,
        rich_help_panel=one.part,
    )
    annotation: Any = Annotated[kind if required else kind | None, option]
    default = inspect.Parameter.empty if required else None
    return inspect.Parameter(one.flat, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _metavar(one: Setting) -> str | None:
    """What stands for the value, where its type does not say it."""
    if _kind(one) is None and not one.choices:
        return "VALUE"
    words = [hint.__name__ for hint in one.alternatives if hint in PLAIN] if _kind(one) is None else []
    return "|".join([*words, *one.choices]) if one.choices else None
