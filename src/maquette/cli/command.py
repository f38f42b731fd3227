"""How every command parses its options."""

from collections import Counter
from typing import Any

from typer.core import TyperCommand

from maquette.errors import MaquetteError


class Command(TyperCommand):
    """A command that refuses an option given twice where only the last would count."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse a command's arguments. Raises `MaquetteError` for a repeated option that takes one value."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        counted = Counter(parameter for parameter in order if parameter.param_type_name == "option")
        twice = [_name(item) for item, count in counted.items() if count > 1 and not item.multiple]
        if twice:
            raise MaquetteError(f"{', '.join(twice)} is given twice, and only one value can count; give it once.")
        return super().parse_args(ctx, args)


def _name(option: Any) -> str:
    """The longest spelling of an option; one that only turns something off has a second kind alone."""
    return max([*option.opts, *option.secondary_opts], key=len)
