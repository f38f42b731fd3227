"""Rules for the values of a file, which are checked before anything is built of them. Does not import torch."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from maquette.errors import MaquetteError, shortened
from maquette.foundation.reading.documents import is_text
from maquette.foundation.settings import problem

Rule = Callable[[Any], str | None]
"""What is wrong with a value, worded to follow its name ("is a text, not 5"); None if it is valid."""

LARGEST = 10**7  # of any number in a configuration: more than any width, vocabulary or parameter of a network
LONGEST = 2**16  # items of a list or table


def typed(hint: Any, low: float | None = None, high: float | None = None) -> Rule:
    """A value of a type, as `foundation.settings.problem` knows them; a number within inclusive bounds."""

    def rule(value: Any) -> str | None:
        if isinstance(value, str) and not is_text(value):
            return "holds half of an emoji or another broken letter"
        return problem(value, hint, low, high)

    return rule


def listed(rule: Rule, least: int, most: int) -> Rule:
    """A list of `least` to `most` values that each fulfil a rule."""

    def of_all(value: Any) -> str | None:
        if not isinstance(value, list | tuple) or not least <= len(value) <= most:
            return f"is a list of {least if least == most else f'{least} to {most}'} values, not {value!r}"
        return next((f"{found} in {value!r}" for item in value if (found := rule(item))), None)

    return of_all


def either(*rules: Rule) -> Rule:
    """A value that fulfils one of several rules."""

    def of_any(value: Any) -> str | None:
        found = [rule(value) for rule in rules]
        return None if None in found else " or ".join(dict.fromkeys(str(words) for words in found))

    return of_any


def optional(rule: Rule) -> Rule:
    """A rule whose value may be left out: null."""
    return lambda value: None if value is None else rule(value)


def table(rules: Mapping[str, Rule]) -> Rule:
    """A table whose values fulfil the rules that there are for them."""

    def of_entries(value: Any) -> str | None:
        if not isinstance(value, dict):
            return f"is a table, not {value!r}"
        found = next(problems_of(value, rules), None)
        return found and f"has {found[0]!r}, which {found[1]}"

    return of_entries


def reasonable(value: Any) -> str | None:
    """A rule for what no other is known of: no number, text, list or table in it is beyond all use."""
    if isinstance(value, int | float):
        return None if abs(value) <= LARGEST else f"holds {value!r}; numbers are within ±{LARGEST:,}"  # NaN is not
    if isinstance(value, list | dict):
        if len(value) > LONGEST:
            return f"has {len(value):,} entries; {LONGEST:,} are the most"
        return next(filter(None, map(reasonable, value.values() if isinstance(value, dict) else value)), None)
    if isinstance(value, str) and not is_text(value):
        return "holds half of an emoji or another broken letter"
    return None


def problems_of(values: Mapping[str, Any], rules: Mapping[str, Rule]) -> Iterator[tuple[str, str]]:
    """The names of values that break their rule, and how; those without a rule are to be `reasonable`."""
    for name, value in values.items():
        if found := rules.get(name, reasonable)(value):
            yield name, shortened(found, 300)


def check_values(
    values: Any, rules: Mapping[str, Rule], source: str, advice: str = "download it again", needed: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Check the values of a file by name, and return them.

    Args:
        source: the file, for messages.
        needed: the names that it must have.

    Raises `MaquetteError` that names the file, the value and what it should be.
    """
    if not isinstance(values, dict):
        raise MaquetteError(f"{source!r} holds no named settings but {shortened(repr(values), 80)}; {advice}.")
    for name in needed:
        if name not in values:
            raise MaquetteError(f"{source!r} lacks {name!r}; {advice}.")
    for name, found in problems_of(values, rules):
        raise MaquetteError(f"{shortened(name, 80)!r} in {source!r} {found}; {advice}.")
    return values


def total(value: Any) -> float:
    """The sum of all numbers in a value that may be a list of lists."""
    if isinstance(value, list):
        return math.fsum(map(total, value))
    return value if isinstance(value, int | float) else 0
