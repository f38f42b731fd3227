"""Recipes from the command line: one flag for each of a recipe's settings."""

from collections.abc import Callable
from typing import Any, TypeVar

import typer

from maquette.foundation.declared import settings_of
from maquette.foundation.flags import read_flags, with_flags

Recipe = TypeVar("Recipe")


def run(make: Callable[[Recipe], object], recipe: type[Recipe], words: str | None) -> None:
    """Make what a recipe describes, its settings read as `--name-of-field VALUE`.

    Args:
        words: for the help; lines that are indented stay as they are.
    """
    settings = settings_of(recipe).values()

    def command(**flags: Any) -> None:
        make(recipe(**read_flags(flags, settings)))

    command.__doc__ = (words or "").replace("\n\n    ", "\n\n\b\n    ")
    typer.run(with_flags(command, settings))
