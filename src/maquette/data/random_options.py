"""Options of a detector, drawn anew for each image: a constant, `uniform(a, b)` or `choice(a, b, ...)`."""

import itertools
import math
import re
import tomllib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

import numpy as np

from maquette.conditions.requirements import random_options
from maquette.conditions.spec import DetectorSpec
from maquette.errors import MaquetteError
from maquette.foundation.declared import Setting, settings_of

FORMS = "an option is a value, uniform(a, b) with a < b, or choice(a, b, ...)"
CALL = re.compile(r"\s*(uniform|choice)\s*\(([^()]*)\)\s*")
WORD = re.compile(r"[A-Za-z_][\w-]*")


@dataclass(frozen=True)
class Chance:
    """How one option is drawn."""

    text: str  # as given
    values: tuple[Any, ...]  # the ends of a range, or all choices; one for a constant
    is_range: bool = False
    is_whole: bool = False  # a range of whole numbers, both ends included

    def draw(self, rng: np.random.Generator) -> Any:
        """A value; constants take nothing from the generator."""
        if self.is_range:
            low, high = self.values
            return int(rng.integers(low, high + 1)) if self.is_whole else float(rng.uniform(low, high))
        return self.values[int(rng.integers(len(self.values)))] if len(self.values) > 1 else self.values[0]

    @property
    def typical(self) -> Any:
        """The middle of a range, the first choice, or the constant."""
        if self.is_range:
            return sum(self.values) // 2 if self.is_whole else sum(self.values) / 2
        return self.values[0]


@dataclass(frozen=True)
class OptionChances:
    """The chances of a detector's options, in the order in which the detector declares them."""

    chances: tuple[tuple[str, Chance], ...] = ()

    @staticmethod
    def of(spec: DetectorSpec, given: Mapping[str, Any]) -> "OptionChances":
        """Chances for the options of a detector.

        Raises `MaquetteError` for unknown options, for values that can be drawn but are out of an option's range, and
        for values of several options that can be drawn together but do not fit.
        """
        declared = {setting.name: setting for setting in settings_of(spec.options).values()}
        known = {name: _fitted(_parsed(given[name]), declared[name]) for name in declared if name in given}
        spec.options.given(spec.name, {name: given[name] for name in given if name not in declared})
        chances = OptionChances(tuple(known.items()))
        for values in chances.extremes():
            spec.options.given(spec.name, values)
        return chances

    def draw(self, spec: DetectorSpec, rng: np.random.Generator) -> dict[str, Any]:
        """Options for one image; with a seed if the detector takes one that has something left to randomise."""
        drawn = {name: chance.draw(rng) for name, chance in self.chances}
        return drawn if "seed" in drawn or spec.leaves_no_chance(drawn) else {**drawn, **random_options(spec, rng)}

    def typical(self) -> dict[str, Any]:
        """Options for measurements, without randomness."""
        return {name: chance.typical for name, chance in self.chances}

    def extremes(self) -> Iterator[dict[str, Any]]:
        """Every combination of range ends and choices: if these fit a detector, so does everything between."""
        names = [name for name, _ in self.chances]
        for values in itertools.product(*(dict.fromkeys(chance.values) for _, chance in self.chances)):
            yield dict(zip(names, values, strict=True))

    def samples(self) -> Iterator[dict[str, Any]]:
        """The typical options, then these with each other choice in turn: all that a detector may have to load."""
        yield self.typical()
        for name, chance in self.chances:
            for value in () if chance.is_range else chance.values[1:]:
                yield {**self.typical(), name: value}

    def __str__(self) -> str:
        return ", ".join(f"{name} = {chance.text}" for name, chance in self.chances)


def options_problem(given: Any) -> str | None:
    """What is wrong with a table of options, whatever the detector, worded to follow its name; None if nothing is."""
    if given is None:
        return None
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        return f'is a table of a detector\'s options, such as {{low = "uniform(20, 120)", high = 240}}, not {given!r}'
    wrong = [f"{name} = {value!r}" for name, value in given.items() if _read(value) is None]
    return f"has {', '.join(wrong)}; {FORMS}" if wrong else None


def _parsed(value: Any) -> Chance:
    chance = _read(value)
    if chance is None:
        raise MaquetteError(f"{value!r} cannot be drawn; {FORMS}.")
    return chance


def _read(value: Any) -> Chance | None:
    """A chance from its text or a plain value; None for anything else."""
    if not isinstance(value, str):
        return Chance(str(value).lower(), (value,)) if isinstance(value, bool | int | float) else None
    match = CALL.fullmatch(value)
    if match is None:
        return None if set("()") & set(value) or not value.strip() else Chance(value, (value,))
    values = tuple(_scalar(part.strip()) for part in match[2].split(","))
    if None in values or len(values) < 2:
        return None
    if match[1] == "choice":
        return Chance(value.strip(), values)
    return Chance(value.strip(), values, is_range=True) if _is_range(values) else None


def _is_range(values: tuple[Any, ...]) -> bool:
    if len(values) != 2 or any(isinstance(value, bool | str) or not math.isfinite(value) for value in values):
        return False
    return bool(values[0] < values[1])


def _scalar(text: str) -> Any:
    """A number, boolean or quoted text in TOML's notation, or a bare word; None for anything else."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text if WORD.fullmatch(text) else None
    return value if isinstance(value, bool | int | float | str) else None


def _fitted(chance: Chance, option: Setting) -> Chance:
    """A chance for this option: of whole numbers if it takes no others; the word "none" is None if it takes that."""
    takes_none = option.default is None or type(None) in _alternatives(option.hint)
    values = tuple(None if takes_none and value == "none" else value for value in chance.values)
    whole = int in option.alternatives and float not in option.alternatives
    whole = whole or (option.hint is Any and type(option.default) is int)
    is_whole = chance.is_range and whole and all(isinstance(value, int) for value in values)
    return Chance(chance.text, values, chance.is_range, is_whole)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
