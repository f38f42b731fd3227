"""How suddenly a training converged: a jump or a ramp, when, and how wide, for the mean and for each scene."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maquette.metrics.change_point import Located, located, noise_of_mean
from maquette.training.monitor.dating import LEAST_EVIDENCE, LEAST_RISE, is_sudden

PER = 4  # places tried between two measurements


def suddenness(steps: Sequence[int], scores: NDArray[np.float64]) -> dict[str, Any]:
    """A training's curve in numbers, all times in optimizer steps.

    Args:
        steps: (n,), equally spaced; n ≥ 3.
        scores: (n, scenes), NaN where a scene has nothing to score.
    """
    known = scores[:, ~np.isnan(scores).any(axis=0)]
    mean = known.mean(axis=1)
    change = located(mean, noise_of_mean(known), PER)
    each = [located(curve, per=PER) for curve in known.T]
    last, every = len(steps) - 1, (steps[-1] - steps[0]) / (len(steps) - 1)
    jumped = [one for one in each if is_sudden(one, last, LEAST_RISE)]
    return {
        "kind": kind_of(change, last),
        "evidence": change.evidence,
        "when": steps[0] + change.middle * every,
        "when, from": steps[0] + change.middles[0] * every,
        "when, to": steps[0] + change.middles[1] * every,
        "width": change.width * every,
        "width, from": change.widths[0] * every,
        "width, to": change.widths[1] * every,
        "before": change.at(0),
        "after": change.at(last),
        "scenes that jump": len(jumped) / max(len(each), 1),
        "their dates": [steps[0] + one.middle * every for one in jumped],
        "their widths": [one.width * every for one in jumped],
    }


def kind_of(change: Located, last: int) -> str:
    """What a curve with measurements numbered up to `last` is, by its best change: a jump, a ramp, or flat.

    A ramp rises as much, but a line explains it about as well, or its rise takes more than a quarter of the curve.
    """
    if is_sudden(change, last, LEAST_RISE):
        return "jump"
    rises = change.at(last) - change.at(0) >= LEAST_RISE and change.rising >= LEAST_EVIDENCE
    return "ramp" if rises else "flat"
