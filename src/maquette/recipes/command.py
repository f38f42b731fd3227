"""A recipe's settings from the command line: one flag a field."""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

Recipe = TypeVar("Recipe")


def from_command_line(recipe: type[Recipe], words: str | None) -> Recipe:
    """Read `--name-of-field VALUE` for every field that is a number, a word or a path."""
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(recipe):  # type: ignore[arg-type]
        kind: Any = field.type
        if kind in (int, float, str, Path):
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default, metavar="VALUE")
    return recipe(**vars(parser.parse_args()))
