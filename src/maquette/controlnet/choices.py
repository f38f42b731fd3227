"""The options of a ControlNet and of a control, and their limits, without importing torch."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown
from maquette.foundation.settings import problem

EncoderName = Literal["release", "paper"]
"""Layout of the condition encoder: the published one, or the one the paper describes."""
Connect = Literal["all", "middle"]
"""Which residuals are used: those of every slot, or only the middle block's (small-scale training)."""
Variant = Literal["zero", "gaussian", "lite", "channels", "context"]
"""Zero convolutions; or, for ablations, Gaussian ones, or plain convolutions instead of the copy ("lite"); or no
ControlNet: a copy of the whole base that takes the condition as further channels of its first convolution ("channels"),
or the base itself, whose attention reads the condition's tokens by weights of low rank ("context").
"""
BY_ITSELF: tuple[Variant, ...] = ("channels", "context")
"""The variants that predict by themselves, in place of the base, instead of adding residuals to it."""

Balance = Literal["balanced", "prompt", "control"]
"""What is more important: neither, the prompt (shallow slots count less), or the control (in the prompt's branch)."""
Branch = Literal["both", "conditional"]
"""The branches of guidance that a control enters: both, or the prompt's alone."""
Curve = Callable[[float], float] | Sequence[tuple[float, float]]
"""A factor by the fraction of the steps done: a function, or (fraction, factor) points joined by straight lines."""

STRONGEST = 10  # weight or factor
SOFTER = 0.825  # factor from one slot to the next shallower one, where the prompt is more important


def check_strength(
    weight: float | Sequence[float],
    start: float,
    end: float,
    balance: str = "balanced",
    curve: Curve | None = None,
    branch: str | None = None,
) -> None:
    """Check how strongly, when and where in guidance a control acts.

    Raises `MaquetteError` for a value outside its limits, an unknown name, and for the balance "control" in both
    branches.
    """
    if not (_is_number(start) and _is_number(end) and 0 <= start <= end <= 1):
        raise MaquetteError(
            f"A control's start and end are shares of the steps with 0 ≤ start ≤ end ≤ 1, "
            f"not start={start!r} and end={end!r}."
        )
    weights: Sequence[Any] = weight if isinstance(weight, Sequence) and not isinstance(weight, str) else [weight]
    for one in weights:
        if not (_is_number(one) and 0 <= one <= STRONGEST):
            raise MaquetteError(
                f"A control's weight is a number from 0 to {STRONGEST}, usually up to 2, or a list with one for each "
                f"slot, not {weight!r}."
            )
    if balance not in get_args(Balance):
        raise MaquetteError(unknown("balance", balance, get_args(Balance)))
    if branch is not None and branch not in get_args(Branch):
        raise MaquetteError(unknown("branch", branch, get_args(Branch)))
    if balance == "control" and branch == "both":
        raise MaquetteError(
            "balance='control' means the conditional branch alone, which contradicts branch='both'; leave one out."
        )
    if curve is not None and not callable(curve):
        _check_points(curve)


def factor_at(curve: Curve | None, done: float) -> float:
    """A curve's factor where a fraction `done` of the steps has been taken; points are flat beyond their ends.

    Raises `MaquetteError` if a function returns anything but a number in the range of factors.
    """
    if curve is None:
        return 1.0
    if not callable(curve):
        return _interpolated(curve, done)
    factor = curve(done)
    if not (_is_number(factor) and 0 <= factor <= STRONGEST):
        raise MaquetteError(
            f"A control's curve gives factors from 0 to {STRONGEST}; at {done:g} of the steps it gives {factor!r}."
        )
    return float(factor)


def slot_factors(balance: str, slots: int) -> list[float]:
    """A factor for each slot, shallow to deep: of n slots, 0.825 ** (n − 1 − i) where the prompt is more important."""
    softer = SOFTER if balance == "prompt" else 1.0
    return [softer ** (slots - 1 - slot) for slot in range(slots)]


def _interpolated(points: Sequence[tuple[float, float]], at: float) -> float:
    """Straight lines between (x, y) points in order of x, flat beyond the first and the last."""
    for (left, low), (right, high) in pairwise(points):
        if left <= at < right:
            return low + (high - low) * (at - left) / (right - left)
    return float(points[0][1] if at < points[0][0] else points[-1][1])


def _check_points(points: Any) -> None:
    """Raises `MaquetteError` unless the points' fractions ascend in [0, 1] and their factors are in range."""
    pairs = isinstance(points, Sequence) and not isinstance(points, str) and len(points) > 0
    pairs = pairs and all(isinstance(point, Sequence) and len(point) == 2 for point in points)
    if not pairs or not all(_is_number(number) for point in points for number in point):
        raise MaquetteError(
            f"A control's curve is a function, or a list of (fraction of the steps, factor), not {points!r}."
        )
    fractions = [fraction for fraction, _ in points]
    ascend = all(left < right for left, right in pairwise(fractions))
    in_range = all(0 <= factor <= STRONGEST for _, factor in points)
    if not (ascend and fractions[0] >= 0 and fractions[-1] <= 1 and in_range):
        raise MaquetteError(
            f"The points of a control's curve have fractions that ascend from 0 to 1 and factors from 0 to "
            f"{STRONGEST}, not {points!r}."
        )


def _is_number(value: object) -> bool:
    return problem(value, float) is None
