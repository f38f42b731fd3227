"""Morphology of strokes, bytes (H, W) with 255 on 0: dilation, erosion, thickness, removal of specks."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.inference import resized, working_size

Strokes = NDArray[np.uint8]


def dilate(strokes: Strokes, radius: float) -> Strokes:
    """All pixels within `radius` pixels of a stroke, (H, W)."""
    return np.where(_distances(255 - strokes) <= radius, np.uint8(255), np.uint8(0))


def erode(strokes: Strokes, radius: float) -> Strokes:
    """Stroke pixels farther than `radius` pixels from the background, (H, W); the image border is not background."""
    return np.where(_distances(strokes) > radius, np.uint8(255), np.uint8(0))


def thickness(strokes: Strokes) -> float:
    """Average stroke width of (H, W) in pixels; 0 without strokes."""
    inside = _distances(strokes)[strokes > 0]
    if not inside.size:
        return 0.0
    # across an odd width w the distances are 1, 2 ... (w + 1) / 2 ... 2, 1: their mean is (w + 1)² / 4w
    b = 4 * float(inside.mean()) - 2
    return (b + max(0.0, b**2 - 4) ** 0.5) / 2


def remove_small_components(strokes: Strokes, least: int) -> Strokes:
    """The connected components of (H, W) with at least `least` pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(strokes, connectivity=8)
    keep = stats[:count, cv2.CC_STAT_AREA] >= least
    keep[0] = False  # background
    return (keep[labels] * 255).astype(np.uint8)


def _distances(strokes: Strokes) -> NDArray[np.float32]:
    """Distance of each pixel of (H, W) to the nearest 0, in pixels."""
    return np.asarray(cv2.distanceTransform(strokes, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)


MIN_PAPER = 32  # paper level in bytes: on darker paper grain would look like strokes
PAPER_SIZE = 256  # pixels, short side at which the paper is estimated
MIN_INK = 0.12  # of the paper's brightness; fainter ink is shading or grain
GRAIN = 6.0  # ink also exceeds this many standard deviations of the grain
STRONG = 2.0  # high hysteresis threshold, times the low one
FALLOFF = 0.4  # a stroke ends where ink falls below this fraction of its neighbourhood's maximum


def cleaned(image: Image.Image, width: int = 3) -> Strokes:
    """Strokes (H, W), 255 on 0, of a drawing that fills the image, dark on light or light on dark.

    Detects which of the two it is, evens out lighting, and removes grain and specks. Filled surfaces wider than a fifth
    of the short side count as paper.

    Args:
        width: minimum average stroke width: four times this in pixels at a height of 512. Thinner strokes are dilated.
    """
    scale = max(1.0, min(image.size) / 128)
    ink, grain = inked(image)
    low = max(MIN_INK, GRAIN * grain)
    nearby = cv2.dilate(ink, np.ones((2 * round(1.5 * scale) + 1,) * 2, np.uint8))
    weak = (ink > low) & (ink > FALLOFF * nearby)
    strokes = remove_small_components(_hysteresis(ink > STRONG * low, weak), int(8 * scale))
    return dilate(strokes, max(0.0, (width * scale - thickness(strokes)) / 2))


def inked(image: Image.Image) -> tuple[NDArray[np.float32], float]:
    """The fraction of the paper's brightness that ink absorbs, (H, W) up to 1, and the standard deviation of the grain.

    The paper's brightness is the median of a wide neighbourhood, as strokes cover less than half of it. Strokes are
    dark where the largest differences from the paper are darker, by the skewness of the differences.
    """
    small = resized(image, working_size(image.size, min(PAPER_SIZE, *image.size), 1))
    kernel = 2 * (min(small.size) // 8) + 1
    paper = cv2.resize(cv2.medianBlur(np.asarray(small), kernel), image.size, interpolation=cv2.INTER_LINEAR)
    pixels = np.asarray(image, np.float32)
    difference = pixels - paper
    if (difference * difference * difference).sum() > 0:
        pixels, paper = 255 - pixels, 255 - paper
    ink = ((paper - pixels) / np.maximum(paper, MIN_PAPER, dtype=np.float32)).max(axis=2)
    return ink, 1.4826 * float(np.median(np.abs(ink - np.median(ink))))


def _hysteresis(strong: NDArray[np.bool_], weak: NDArray[np.bool_]) -> Strokes:
    """The connected components of weak pixels (H, W) that contain a strong one (H, W)."""
    count, labels = cv2.connectedComponents(weak.astype(np.uint8))
    keep = np.zeros(count, bool)
    keep[labels[strong & weak]] = True
    return (keep[labels] * 255).astype(np.uint8)
