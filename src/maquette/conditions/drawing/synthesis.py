"""Scribbles from soft edges, as the paper synthesises them for training (v1 §3.5, "User Sketching")."""

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
THRESHOLD = 0.25  # on soft edges, without a seed
BLUR = 0.5  # sigma in pixels at a short side of 128: joins parallel edges


def synthesised(soft: NDArray[np.float32], width: int = 3, seed: int | None = None) -> Strokes:
    """Strokes (H, W), 255 on 0, along soft edges.

    Without a seed, the crests of the edges, all of equal width. With one, a random threshold; non-maximum suppression
    or none; a random fraction of the strokes masked, up to a half; a random width; a random morphological operation.

    Args:
        soft: (H, W) in [0, 1].
        width: a stroke is four times this wide, in pixels at a height of 512; with a seed, up to one more or less.
        seed: of the randomness; None for none.
    """
    scale = max(1.0, min(soft.shape) / 128)
    if seed is None:
        return _thickened(_without_specks(crests(soft, THRESHOLD, BLUR * scale), scale), width * scale)
    rng = np.random.default_rng(seed)
    threshold, blur, suppress = rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.9), rng.random() < 0.5
    found = crests(soft, threshold, blur * scale) if suppress else (soft > threshold).astype(np.uint8) * 255
    strokes = mask_some(_without_specks(found, scale), rng.uniform(0, 0.5), rng)
    wide = max(1.0, width + rng.uniform(-1, 1)) * scale
    return _morphed(_thickened(strokes, wide) if suppress else strokes, wide, rng)


def crests(soft: NDArray[np.float32], threshold: float, blur: float) -> Strokes:
    """Non-maximum suppression: strokes (H, W) where pixels above a threshold are largest along two of four directions.

    One direction is not enough: pixels next to a crest may be largest along it by accident.

    Args:
        soft: (H, W) in [0, 1].
        blur: sigma of a Gaussian applied first, in pixels.
    """
    smooth = cv2.GaussianBlur(soft, (0, 0), blur)
    largest = sum((cv2.dilate(smooth, line) == smooth).astype(np.uint8) for line in DIRECTIONS)
    return np.where((largest >= 2) & (smooth > threshold), np.uint8(255), np.uint8(0))


def mask_some(strokes: Strokes, fraction: float, rng: np.random.Generator) -> Strokes:
    """Mask a fraction of the strokes (H, W), cut into pieces by the Voronoi cells of random points."""
    points = rng.random((int(rng.integers(20, 200)), 2)) * strokes.shape
    background = np.full(strokes.shape, 255, np.uint8)
    background[tuple(points.astype(int).T)] = 0
    cells = cv2.distanceTransformWithLabels(background, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    pieces = cv2.connectedComponents(strokes)[1] * (cells.max() + 1) + cells
    labels = np.unique(pieces[strokes > 0])
    masked = rng.permutation(labels)[: round(fraction * len(labels))]
    return np.where(np.isin(pieces, masked), np.uint8(0), strokes)


def _morphed(strokes: Strokes, wide: float, rng: np.random.Generator) -> Strokes:
    """Strokes unchanged, dilated, eroded, opened or closed, at random, by up to a fifth of a stroke's width."""
    operation, radius = rng.integers(5), wide * rng.uniform(0.05, 0.2)
    if operation in (1, 4):
        strokes = dilate(strokes, radius)
    if operation in (2, 3, 4):
        strokes = erode(strokes, radius)
    return dilate(strokes, radius) if operation == 3 else strokes


def _thickened(lines: Strokes, width: float) -> Strokes:
    return dilate(lines, max(0.0, (width - 1) / 2))


def _without_specks(lines: Strokes, scale: float) -> Strokes:
    return remove_small_components(lines, int(8 * scale))
