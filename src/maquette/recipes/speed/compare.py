"""Differences of a lever's images to the exact ones of the same scenes, captions and noise."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maquette.metrics.frechet import frechet_distance
from maquette.metrics.intervals import Interval, bootstrap, middle
from maquette.recipes.speed.measure import Measured, conditions_of, read

DRAWS = 200  # of the bootstrap of Fréchet distances
MANY = 10**6  # images: all that there are


def compared(run: Path, lever: str) -> dict[str, Any]:
    """The means of a lever's images, and their differences to the exact ones, of as many scenes of each condition.

    The same scenes serve every condition, so intervals are of scenes: all images of a scene are drawn together.
    """
    conditions = conditions_of(run, lever)
    both = [read(run, which, {name: MANY}) for which in (lever, "exact") for name in conditions]
    scenes = min(len(one.fidelity) for one in both)
    counts = dict.fromkeys(conditions, scenes)
    found, exact = read(run, lever, counts), read(run, "exact", counts)
    error = np.square((found.pixels.astype(np.float32) - exact.pixels) / 255).mean(axis=(1, 2, 3))
    numbers: dict[str, Any] = {
        "images": counts,
        "psnr": float(np.mean(-10 * np.log10(np.maximum(error, 1e-5)))),
        "frechet": _frechet(found, exact, scenes),
    }
    for name in ("fidelity", "alignment"):
        numbers[name] = _paired(getattr(found, name), getattr(exact, name), scenes)
    parts = (values.fidelity.reshape(-1, scenes) for values in (found, exact))
    each = zip(conditions, *parts, strict=True)
    numbers["conditions"] = {condition: _paired(ours, theirs, scenes) for condition, ours, theirs in each}
    return numbers


def _paired(ours: NDArray[np.float64], theirs: NDArray[np.float64], scenes: int) -> dict[str, Any]:
    """The mean of a lever's scores (C N,) with C conditions, and of their differences to the exact ones by scene."""
    apart = (ours - theirs).reshape(-1, scenes)
    with np.errstate(invalid="ignore"):  # where no condition has anything to score
        change = np.nansum(apart, axis=0) / np.isfinite(apart).sum(axis=0)
    return {"value": float(np.nanmean(ours)), "difference": asdict(bootstrap(change))}


def _frechet(found: Measured, exact: Measured, scenes: int) -> dict[str, Any]:
    """The distance to the scenes, and its difference to that of the exact images, drawing the same scenes for all."""

    def difference(rows: NDArray[np.intp]) -> float:
        ours, theirs = (frechet_distance(one.features[rows], one.true[rows]) for one in (found, exact))
        return ours - theirs

    rng, rows = np.random.default_rng(0), np.arange(len(found.true)).reshape(-1, scenes)
    draws = np.array([difference(rows[:, rng.choice(scenes, scenes)].ravel()) for _ in range(DRAWS)])
    mean = difference(rows.ravel())
    change = Interval(mean, *middle(draws - draws.mean() + mean))
    return {"value": frechet_distance(found.features, found.true), "difference": asdict(change)}
