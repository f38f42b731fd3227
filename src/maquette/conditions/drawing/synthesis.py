"""Scribbles from soft edges, as the paper synthesises them to train on (v1 §3.5, "User Sketching")."""

import cv2
import numpy as np
from numpy.typing import NDArray

from maquette.conditions.drawing.morphology import Strokes, dilate, erode, remove_small_components

DIRECTIONS = [
    np.array(rows, np.uint8)
    for rows in (
        [[0, 0, 0], [1, 1, 1], [0, 0, 0]],
        [[0, 1, 0], [0, 1, 0], [0, 1, 0]],
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
    )
]
THRESHOLD = 0.25  # of soft edges, where nothing is by chance
BLUR = 0.5  # pixels where the short side has 128: joins edges that run beside each other


def synthesised(soft: NDArray[np.float32], width: int = 3, seed: int | None = None) -> Strokes:
    """Strokes (H, W), 255 on 0, along soft edges.

    Without a seed: the crests of the edges, all as thick. With one: a random threshold; non-maximum suppression or
    none; a random share of the strokes, up to a half, masked; a random thickness; and a random morphological operation.

    Args:
        soft: (H, W) in [0, 1].
        width: of a stroke at 512 pixels' height is four times this; with a seed, one more or less.
    """
    scale = max(1.0, min(soft.shape) / 128)
    if seed is None:
        return _thick(_specks_gone(crests(soft, THRESHOLD, BLUR * scale), scale), width * scale)
    rng = np.random.default_rng(seed)
    threshold, blur, thinned = rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.9), rng.random() < 0.5
    found = crests(soft, threshold, blur * scale) if thinned else (soft > threshold).astype(np.uint8) * 255
    strokes = without_some(_specks_gone(found, scale), rng.uniform(0, 0.5), rng)
    wide = max(1.0, width + rng.uniform(-1, 1)) * scale
    return _morphed(_thick(strokes, wide) if thinned else strokes, wide, rng)


def crests(soft: NDArray[np.float32], threshold: float, blur: float) -> Strokes:
    """Non-maximum suppression: what is largest along two or more of four directions, and above a threshold.

    One would not do: beside a crest, pixels are largest along it by chance.

    Args:
        soft: (H, W) in [0, 1].
        blur: sigma of a Gaussian beforehand, pixels.
    """
    smooth = cv2.GaussianBlur(soft, (0, 0), blur)
    largest = sum((cv2.dilate(smooth, line) == smooth).astype(np.uint8) for line in DIRECTIONS)
    return np.where((largest >= 2) & (smooth > threshold), np.uint8(255), np.uint8(0))


def without_some(strokes: Strokes, share: float, rng: np.random.Generator) -> Strokes:
    """A share of the strokes masked: of the pieces into which cells around random points cut them."""
    points = rng.random((int(rng.integers(20, 200)), 2)) * strokes.shape
    ground = np.full(strokes.shape, 255, np.uint8)
    ground[tuple(points.astype(int).T)] = 0
    cells = cv2.distanceTransformWithLabels(ground, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    pieces = cv2.connectedComponents(strokes)[1] * (cells.max() + 1) + cells
    names = np.unique(pieces[strokes > 0])
    gone = rng.permutation(names)[: round(share * len(names))]
    return np.where(np.isin(pieces, gone), np.uint8(0), strokes)


def _morphed(strokes: Strokes, wide: float, rng: np.random.Generator) -> Strokes:
    """Left alone, dilated, eroded, opened or closed, by up to a fifth of a stroke's width."""
    operation, radius = rng.integers(5), wide * rng.uniform(0.05, 0.2)
    if operation in (1, 4):
        strokes = dilate(strokes, radius)
    if operation in (2, 3, 4):
        strokes = erode(strokes, radius)
    return dilate(strokes, radius) if operation == 3 else strokes


def _thick(lines: Strokes, width: float) -> Strokes:
    return dilate(lines, max(0.0, (width - 1) / 2))


def _specks_gone(lines: Strokes, scale: float) -> Strokes:
    return remove_small_components(lines, int(8 * scale))
