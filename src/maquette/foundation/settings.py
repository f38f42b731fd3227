"""Parse and check settings as users type them. This module does not import torch."""

import math
import re
import tomllib
import types
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from maquette.errors import MaquetteError, shortened
from maquette.foundation.registry import nearest, unknown

DTYPE_NAMES = ("float32", "bfloat16", "float16")
FilePrediction = Literal["epsilon", "v_prediction"]
Fit = Literal["cut", "pad", "stretch"]
"""How an image of another shape gets a size: cut off, padded with black, or stretched."""
PREDICTIONS = get_args(FilePrediction)  # of a base in a single file
DEVICE_TYPES = (
    "cpu", "cuda", "mps", "xpu", "hpu", "mtia", "xla", "meta", "ipu", "mkldnn", "opengl", "opencl", "ideep", "hip",
    "ve", "fpga", "maia", "lazy", "vulkan", "privateuseone",
)  # fmt: skip
"""Device types that torch knows."""


def check_dtype(name: str) -> None:
    """Raises `MaquetteError` for a precision that is neither "auto" nor known."""
    if name not in ("auto", *DTYPE_NAMES):
        raise MaquetteError(unknown("dtype", name, ["auto", *DTYPE_NAMES]))


def check_prediction(name: str | None) -> None:
    """Raises `MaquetteError` for what no base in a single file predicts; None where the file says it."""
    if name not in (None, *PREDICTIONS):
        raise MaquetteError(unknown("prediction", name, PREDICTIONS))


def check_device(name: str) -> None:
    """Raises `MaquetteError` for a device type that torch does not know; availability is checked by torch later."""
    kind, colon, number = name.partition(":")
    if name != "auto" and (kind not in DEVICE_TYPES or (colon and not number.isdecimal())):
        raise no_device(name, f"torch knows {', '.join(DEVICE_TYPES[:4])} and others, with a number as in cuda:0")


def no_device(name: str, reason: str) -> MaquetteError:
    """The error for a device that does not exist or is not available."""
    return MaquetteError(
        f"There is no device {name!r} here ({reason}); give 'auto', 'cpu', or 'cuda' or 'mps' where it is."
    )


def read_size(text: str, one_number: bool = False) -> tuple[int, int]:
    """Parse WIDTHxHEIGHT, in pixels.

    Args:
        one_number: whether a single number is accepted for both.

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
    """Parse settings written NAME=VALUE, with `read_value`.

    Raises `MaquetteError`, naming the flag and giving the example, for text without "=", and for a name given twice.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise MaquetteError(f"{flag} is NAME=VALUE, such as {example}, not {setting!r}.")
        if name.strip() in found:
            raise MaquetteError(f"{flag} gives {name.strip()} twice; give it once.")
        found[name.strip()] = read_value(value)
    return found


def read_value(text: str) -> Any:
    """Parse a value as TOML, or as WIDTHxHEIGHT; other text stays a string."""
    if re.fullmatch(r"\d+x\d+", text):
        return list(read_size(text))
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def problem(value: Any, hint: Any, low: float | None = None, high: float | None = None) -> str | None:
    """What is wrong with the type or range of a value, worded to follow its name; None if it is valid.

    Args:
        hint: bool, int, float, str, Path or a Literal of strings, alone or in a union, also with None.
        low, high: inclusive bounds of a number.
    """
    shown = shortened(repr(value))
    hints = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if value is None and types.NoneType in hints:
        return None
    if bool in hints:
        return None if isinstance(value, bool) else f"is true or false, not {shown}"
    choices = [choice for hint in hints if get_origin(hint) is Literal for choice in get_args(hint)]
    if choices and (isinstance(value, str) or not {int, float} & set(hints)):
        return None if value in choices else f"cannot be {shown}{nearest(value, choices)}"
    if {str, Path} & set(hints) and not isinstance(value, str | Path):
        return f"is a text, not {shown}"
    if float in hints:
        return None if _is_number(value, low, high) else f"is a number{_range(low, high)}, not {shown}"
    if int in hints and not (isinstance(value, Integral) and _is_number(value, low, high)):
        return f"is a whole number{_range(low, high)}, not {shown}"
    return None


def _is_number(value: Any, low: float | None, high: float | None) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False
    return math.isfinite(number) and (low is None or number >= low) and (high is None or number <= high)


def in_digits(bound: float) -> str:
    """A bound as it is written: large whole numbers in full."""
    return f"{bound:,}" if isinstance(bound, int) and bound >= 10**6 else f"{bound:g}"


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return "" if high is None else f" up to {high:g}"
    return f" of {low:g} or more" if high is None else f" from {low:g} to {in_digits(high)}"
