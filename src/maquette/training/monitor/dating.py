"""The step of sudden convergence, found in a curve of equally spaced measurements, and whether it can be relied on.

The curve so far is compared by BIC with a line, a level, and a change between two levels (`metrics.change_point`).
"""

import math
from collections.abc import Sequence

import numpy as np

from maquette.metrics.change_point import Change, growing

LEAST_RISE = 0.1  # of fidelity, from the level before to the level after
LEAST_EVIDENCE = 10.0  # difference of BIC: very strong, since every measurement is another chance to be wrong
WIDEST = 0.25  # share of the curve in which a sudden rise does 10 to 90 % of its way; on a line it is 0.8
LEAST_MEASUREMENTS = 12  # fewer give provisional dates only


def convergence_step(
    steps: Sequence[int], scores: Sequence[float], least: float = LEAST_RISE, noise: Sequence[float] | None = None
) -> int | None:
    """The step of sudden convergence: the first measurement past the middle of a sudden rise; None without one.

    A rise is sudden if the change between two levels explains the curve better than a line and a level do, by
    `LEAST_EVIDENCE`; if it rises by `least`; if its 10 to 90 % lie within the measurements, with one more after them,
    and take at most a quarter of the curve, or two measurements.

    Args:
        noise: of the scores, as far as it is known with each measurement, such as from the scenes that they average.
    """
    places = _places(scores, least, noise)
    return steps[places[-1]] if places and places[-1] is not None else None


def settled_at(
    steps: Sequence[int], scores: Sequence[float], least: float = LEAST_RISE, noise: Sequence[float] | None = None
) -> int | None:
    """The step of the first measurement at which the date of convergence had settled; None as long as it has not.

    A date has settled once all measurements of the last third gave it, up to one measurement earlier or later, when
    they were the latest; there are at least `LEAST_MEASUREMENTS`. What was measured later does not change the answer,
    so a resumed run acts at the same step as an uninterrupted one.
    """
    places = _places(scores, least, noise)
    return next((steps[end - 1] for end in range(1, len(places) + 1) if _agree(places[:end])), None)


def is_settled(scores: Sequence[float], least: float = LEAST_RISE, noise: Sequence[float] | None = None) -> bool:
    """Whether the date that all measurements give has settled, and is not provisional."""
    return _agree(_places(scores, least, noise))


def _places(scores: Sequence[float], least: float, noise: Sequence[float] | None) -> list[int | None]:
    """The measurement that each one dated convergence to when it was the latest."""
    if not len(scores) or math.isnan(scores[0]):
        return [None] * len(scores)
    found = growing(scores, 0.0 if noise is None else np.asarray(noise, float))
    return [math.ceil(change.middle) if is_sudden(change, last, least) else None for last, change in enumerate(found)]


def _agree(places: Sequence[int | None]) -> bool:
    """Whether the last third of the measurements gave the same date, up to one measurement."""
    last_third = places[2 * len(places) // 3 - 1 :]
    dated = [place for place in last_third if place is not None]
    return len(places) >= LEAST_MEASUREMENTS and len(dated) == len(last_third) and max(dated) - min(dated) <= 1


def is_sudden(change: Change, last: int, least: float) -> bool:
    """Whether a change in the measurements up to number `last` is sudden convergence, as for `convergence_step`."""
    begins, ends = change.middle - change.width / 2, change.middle + change.width / 2
    is_inside = begins >= 0 and ends <= last - 1
    is_narrow = change.width <= max(WIDEST * last, 2)
    return is_inside and is_narrow and change.high - change.low >= least and change.evidence >= LEAST_EVIDENCE
