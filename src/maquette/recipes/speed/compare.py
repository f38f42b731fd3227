"""Differences of a lever's images to the exact ones of the same scenes, captions and noise."""

from collections.abc import Sequence
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
    """The means of a lever's images, and their differences to the exact ones.

    The same scenes serve every condition, so intervals are of scenes: all images of a scene are drawn together.
    """
    counts = {condition: _scenes(run, lever, condition) for condition in conditions_of(run, lever)}
    found, exact = read(run, lever, counts), read(run, "exact", counts)
    error = np.square((found.pixels.astype(np.float32) - exact.pixels) / 255).mean(axis=(1, 2, 3))
    rows = _rows(list(counts.values()))
    numbers: dict[str, Any] = {
        "images": counts,
        "psnr": float(np.mean(-10 * np.log10(np.maximum(error, 1e-5)))),
        "frechet": _frechet(found, exact, rows),
        **{name: _paired(getattr(found, name), getattr(exact, name), rows) for name in ("fidelity", "alignment")},
    }
    each = zip(counts, rows, strict=True)
    numbers["conditions"] = {name: _paired(found.fidelity, exact.fidelity, own[None]) for name, own in each}
    return numbers


def _scenes(run: Path, lever: str, condition: str) -> int:
    """How many scenes a lever and exact were both measured on."""
    return min(len(read(run, which, {condition: MANY}).fidelity) for which in (lever, "exact"))


def _rows(counts: Sequence[int]) -> NDArray[np.intp]:
    """(C, N): the row of each scene's image with each of C conditions; -1 where there is none."""
    rows = np.full((len(counts), max(counts)), -1)
    for condition, count in enumerate(counts):
        rows[condition, :count] = sum(counts[:condition]) + np.arange(count)
    return rows


def _paired(ours: NDArray[np.float64], theirs: NDArray[np.float64], rows: NDArray[np.intp]) -> dict[str, Any]:
    """The mean of a lever's scores in some rows (C, N), and of their differences to the exact ones, scene by scene."""
    apart = np.where(rows < 0, np.nan, (ours - theirs)[rows])
    with np.errstate(invalid="ignore"):  # where no condition has anything to score
        change = np.nansum(apart, axis=0) / np.isfinite(apart).sum(axis=0)
    return {"value": float(np.nanmean(ours[rows[rows >= 0]])), "difference": asdict(bootstrap(change))}


def _frechet(found: Measured, exact: Measured, rows: NDArray[np.intp]) -> dict[str, Any]:
    """The distance to the scenes, and its difference to that of the exact images, drawing the same scenes for all."""

    def difference(scenes: NDArray[np.intp]) -> float:
        drawn = rows[:, scenes]
        drawn = drawn[drawn >= 0]
        ours, theirs = (frechet_distance(one.features[drawn], one.true[drawn]) for one in (found, exact))
        return ours - theirs

    rng, scenes = np.random.default_rng(0), np.arange(rows.shape[1])
    draws = np.array([difference(rng.choice(scenes, len(scenes))) for _ in range(DRAWS)])
    mean = difference(scenes)
    change = Interval(mean, *middle(draws - draws.mean() + mean))
    return {"value": frechet_distance(found.features, found.true), "difference": asdict(change)}
