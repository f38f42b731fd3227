"""Settings as users type them: values read, and what is wrong with one. Nothing here imports torch."""

import math
import tomllib
import types
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from maquette.errors import MaquetteError
from maquette.foundation.registry import nearest, unknown

DTYPE_NAMES = ("float32", "bfloat16", "float16")
DEVICE_TYPES = (
    "cpu", "cuda", "mps", "xpu", "hpu", "mtia", "xla", "meta", "ipu", "mkldnn", "opengl", "opencl", "ideep", "hip",
    "ve", "fpga", "maia", "lazy", "vulkan", "privateuseone",
)  # fmt: skip
"""Types of devices that torch has names for."""


def check_dtype(name: str) -> None:
    """`MaquetteError` for a precision that is neither "auto" nor known."""
    if name not in ("auto", *DTYPE_NAMES):
        raise MaquetteError(unknown("dtype", name, ["auto", *DTYPE_NAMES]))


def check_device(name: str) -> None:
    """`MaquetteError` for a device of a type that torch has no name for; whether it is there, only torch can say."""
    kind, colon, number = name.partition(":")
    if name != "auto" and (kind not in DEVICE_TYPES or (colon and not number.isdecimal())):
        raise no_device(name, f"torch knows {', '.join(DEVICE_TYPES[:4])} and others, with a number as in cuda:0")


def no_device(name: str, reason: str) -> MaquetteError:
    return MaquetteError(
        f"There is no device {name!r} here ({reason}); give 'auto', 'cpu', or 'cuda' or 'mps' where it is."
    )


def read_size(text: str, one_number: bool = False) -> tuple[int, int]:
    """Width and height in pixels out of WIDTHxHEIGHT.

    Args:
        one_number: whether one number may stand for both.

    Raises `MaquetteError` for anything else.
    """
    sides = text.lower().split("x")
    if one_number and len(sides) == 1:
        sides *= 2
    if len(sides) != 2 or not all(side.isdigit() and int(side) for side in sides):
        form = "pixels or one number, such as 512 or 768x512" if one_number else "pixels, such as 128x128"
        raise MaquetteError(f"--size is WIDTHxHEIGHT in {form}, not {text!r}.")
    return int(sides[0]), int(sides[1])


def read_named(settings: Sequence[str], flag: str, example: str) -> dict[str, Any]:
    """Settings written NAME=VALUE, the value as TOML has it, or else a word."""
    found: dict[str, Any] = {}
    for one in settings:
        name, equals, value = one.partition("=")
        if not equals:
            raise MaquetteError(f"{flag} is NAME=VALUE, such as {example}, not {one!r}.")
        found[name.strip()] = read_value(value)
    return found


def read_value(words: str) -> Any:
    """A value as TOML has it, or else a word."""
    try:
        return tomllib.loads(f"value = {words}")["value"]
    except tomllib.TOMLDecodeError:
        return words


def problem(value: Any, hint: Any, low: float | None = None, high: float | None = None) -> str | None:
    """What is wrong with a value by its type and range, as a sentence goes on after its name; None where it is sound.

    Args:
        hint: bool, int, float, str, a path, or literal words; alone or as alternatives, None among them.
        low, high: of numbers, both allowed.
    """
    choices = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if value is None and types.NoneType in choices:
        return None
    if bool in choices:
        return None if isinstance(value, bool) else f"is true or false, not {value!r}"
    words = [word for choice in choices if get_origin(choice) is Literal for word in get_args(choice)]
    if words and (isinstance(value, str) or not {int, float} & set(choices)):
        return None if value in words else f"cannot be {value!r}{nearest(value, words)}"
    if {str, Path} & set(choices) and not isinstance(value, str | Path):
        return f"is a text, not {value!r}"
    if float in choices:
        return None if _is_number(value, low, high) else f"is a number{_range(low, high)}, not {value!r}"
    if int in choices and not (isinstance(value, Integral) and _is_number(value, low, high)):
        return f"is a whole number{_range(low, high)}, not {value!r}"
    return None


def _is_number(value: Any, low: float | None, high: float | None) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        return False
    number = float(value)
    return (low is None or number >= low) and (high is None or number <= high)


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return "" if high is None else f" up to {high:g}"
    return f" of {low:g} or more" if high is None else f" from {low:g} to {high:g}"
