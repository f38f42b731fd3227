"""Run recipes from the command line, with one flag per setting."""

from collections.abc import Callable
from typing import Any, TypeVar

import typer

from maquette.foundation.declared import settings_of
from maquette.foundation.flags import read_flags, with_flags

Recipe = TypeVar("Recipe")


def run(make: Callable[[Recipe], object], recipe: type[Recipe], description: str | None) -> None:
    """Parse a recipe's settings from flags, `--name-of-field VALUE`, and run it.

    Args:
        description: help text; indented lines are kept verbatim.
    """
    settings = settings_of(recipe).values()

    def command(**flags: Any) -> None:
        make(recipe(**read_flags(flags, settings)))

    command.__doc__ = (description or "").replace("\n\n    ", "\n\n\b\n    ")
    typer.run(with_flags(command, settings))
