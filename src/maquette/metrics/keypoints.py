"""How close detected people are to those expected: COCO's similarity of key points, and the share of correct ones.

Each expected person is compared with one detected person; nobody is used twice, the most alike come first.
"""

import numpy as np
from numpy.typing import NDArray

from maquette.conditions.drawing.people import People, to_coco

SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
"""COCO's deviation of annotators for each of its 17 key points, as a share of the root of a person's area."""

FILLED = 0.53  # of a person's box is the person, where no area is annotated, as in mmpose and xtcocotools
REACH = 0.1  # of the longer side of a person's box: how far a correct key point may be off


def oks(found: People, expected: People) -> float:
    """Mean over expected people of the object key point similarity with the detected person matched to each.

    COCO's: the mean over a person's visible key points of exp(-d² / (2 (2 σ)² area)); 0 for points and people that are
    not found. The area is 0.53 of the box around the visible points. NaN if nobody is expected.
    """
    similar = _similarities(to_coco(found.body), to_coco(expected.body))
    return _mean(similar, similar)


def pck(found: People, expected: People) -> float:
    """Mean over expected people of the share of visible key points found within a tenth of the box's longer side.

    People are matched as for `oks`. NaN if nobody is expected.
    """
    points, truth = to_coco(found.body), to_coco(expected.body)
    distances = _distances(points, truth)
    width, height = _boxes(truth)
    reach = REACH * np.maximum(width, height)[:, None, None]
    return _mean(_similarities(points, truth), _over_visible(distances <= reach, truth))


def _distances(found: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances (P, Q, 17) in pixels of Q people's points (Q, 17, 3) from P expected ones' (P, 17, 3)."""
    apart = np.linalg.norm(truth[:, None, :, :2] - found[None, :, :, :2], axis=-1)
    return np.where(found[None, :, :, 2] > 0, apart, np.inf)


def _boxes(truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Width and height (2, P) of the boxes around visible points (P, 17, 3), at least a pixel."""
    seen = truth[..., 2:] > 0
    low = np.where(seen, truth[..., :2], np.inf).min(axis=1)
    high = np.where(seen, truth[..., :2], -np.inf).max(axis=1)
    return np.maximum(high - low, 1).T


def _similarities(found: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """The similarity (P, Q) of each of P expected people's points (P, 17, 3) with each of Q (Q, 17, 3)."""
    width, height = _boxes(truth)
    area = (FILLED * width * height)[:, None, None]
    likeness = np.exp(-(_distances(found, truth) ** 2) / (2 * (2 * SIGMAS) ** 2 * area))
    return _over_visible(likeness, truth)


def _over_visible(values: NDArray[np.float64] | NDArray[np.bool_], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean (P, Q) of values (P, Q, 17) over the visible points of P people (P, 17, 3); NaN for one without any."""
    seen = (truth[..., 2] > 0)[:, None]
    with np.errstate(invalid="ignore"):
        return np.asarray((values * seen).sum(axis=-1) / seen.sum(axis=-1))


def _mean(similar: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """The mean of scores (P, Q) over P expected people, each matched to one of Q by similarity (P, Q), best first."""
    matched = np.zeros(len(scores))
    taken: tuple[set[int], set[int]] = (set(), set())
    for place in np.argsort(-similar, axis=None):
        row, column = map(int, np.unravel_index(place, similar.shape))
        if row not in taken[0] and column not in taken[1]:
            matched[row] = scores[row, column]
            taken[0].add(row)
            taken[1].add(column)
    return float(matched.mean()) if len(matched) else float("nan")
