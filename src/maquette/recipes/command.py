"""A recipe's settings from the command line: one flag a field."""

import argparse
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args

Recipe = TypeVar("Recipe")


def from_command_line(recipe: type[Recipe], words: str | None) -> Recipe:
    """Read `--name-of-field VALUE` for every field that is a number, a word or a path, or one of them or None."""
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(recipe):  # type: ignore[arg-type]
        kind: Any = get_args(field.type)[0] if isinstance(field.type, UnionType) else field.type
        if kind in (int, float, str, Path):
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default, metavar="VALUE")
    return recipe(**vars(parser.parse_args()))
