"""The step of sudden convergence, found in a curve of measurements, and from when on that date can be relied on."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

LEAST_RISE = 0.05  # of fidelity, from the first measurement to the best
LEAST_SHARE = 0.8  # of the scores' variance that two levels, before and after the date, explain; on a line it is 0.75
LEAST_JUMP = 0.5  # of the rise that falls within a quarter of the measurements, around the date; on a line it is 0.25
LEAST_MEASUREMENTS = 12  # fewer give provisional dates only


def convergence_step(steps: Sequence[int], scores: Sequence[float], least: float = LEAST_RISE) -> int | None:
    """The step of sudden convergence, from which on the score stays above the middle between first and best.

    None with fewer than three measurements, if the score rose by less than `least`, and if it did not rise suddenly:
    if two levels, before and after the date, explain less of the variance than `LEAST_SHARE`, or less than `LEAST_JUMP`
    of the rise is near the date.
    """
    place = _place(np.asarray(scores, float), least)
    return None if place is None else steps[place]


def settled_at(steps: Sequence[int], scores: Sequence[float], least: float = LEAST_RISE) -> int | None:
    """The step of the first measurement at which the date of convergence had settled; None as long as it has not.

    A date has settled once all measurements of the last third gave it, up to one measurement earlier or later, when
    they were the latest; there are at least `LEAST_MEASUREMENTS`. What was measured later does not change the answer,
    so a resumed run acts at the same step as an uninterrupted one.
    """
    places = _places(scores, least)
    return next((steps[end - 1] for end in range(1, len(places) + 1) if _agree(places[:end])), None)


def is_settled(scores: Sequence[float], least: float = LEAST_RISE) -> bool:
    """Whether the date that all measurements give has settled, and is not provisional."""
    return _agree(_places(scores, least))


def _places(scores: Sequence[float], least: float) -> list[int | None]:
    """The measurement that each one dated convergence to when it was the latest."""
    values = np.asarray(scores, float)
    return [_place(values[:end], least) for end in range(1, len(values) + 1)]


def _agree(places: Sequence[int | None]) -> bool:
    """Whether the last third of the measurements gave the same date, up to one measurement."""
    last_third = places[2 * len(places) // 3 - 1 :]
    dated = [place for place in last_third if place is not None]
    return len(places) >= LEAST_MEASUREMENTS and len(dated) == len(last_third) and max(dated) - min(dated) <= 1


def _place(scores: Scores, least: float) -> int | None:
    """The number of the measurement with which the score converged, in (n,) scores."""
    if len(scores) < 3 or math.isnan(scores[0]) or scores.max() - scores[0] < least:
        return None
    below = np.flatnonzero(scores < (scores[0] + scores.max()) / 2)
    place = int(below[-1]) + 1
    return place if place < len(scores) and _is_sudden(scores, place) else None


def _is_sudden(scores: Scores, place: int) -> bool:
    """Whether (n,) scores are about two levels, with most of the rise between them near `place`."""
    before, after = scores[:place], scores[place:]
    unexplained = len(before) * before.var() + len(after) * after.var()
    reach = max(1, len(scores) // 8)
    jump = scores[min(place + reach, len(scores) - 1)] - scores[max(place - 1 - reach, 0)]
    two_levels = unexplained <= (1 - LEAST_SHARE) * len(scores) * scores.var()
    return bool(two_levels and jump >= LEAST_JUMP * (scores.max() - scores[0]))
