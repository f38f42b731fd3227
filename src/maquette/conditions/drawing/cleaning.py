"""A drawing, photographed or scanned, cleaned: white strokes on black."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.drawing.morphology import Strokes, dilate, remove_small_components, thickness
from maquette.conditions.inference import scaled, working_size

DARKEST = 32  # level of the paper, below which its grain would look like strokes
SMALL = 256  # pixels of the short side at which the paper is estimated
FAINTEST = 0.12  # ink that takes less of the paper's brightness is shade or grain
GRAIN = 6.0  # and so is less than this many deviations of the grain
SURE = 2.0  # a stroke has a pixel of this many times the faintest ink
FALL = 0.4  # and ends where ink falls below this share of what is beside it


def cleaned(image: Image.Image, width: int = 3) -> Strokes:
    """Strokes (H, W), 255 on 0, of a drawing that fills the image: dark on light, or light on dark.

    Uneven light is evened out; which of the two it is, is found out; grain and specks are left out. A filled surface
    wider than a fifth of the short side is taken for paper.

    Args:
        width: strokes that are thinner on the average than four times this at 512 pixels' height become that thick.
    """
    scale = max(1.0, min(image.size) / 128)
    ink, grain = inked(image)
    faintest = max(FAINTEST, GRAIN * grain)
    beside = cv2.dilate(ink, np.ones((2 * round(1.5 * scale) + 1,) * 2, np.uint8))
    faint = (ink > faintest) & (ink > FALL * beside)
    strokes = remove_small_components(_with_a_pixel_of(ink > SURE * faintest, faint), int(8 * scale))
    return dilate(strokes, max(0.0, (width * scale - thickness(strokes)) / 2))


def inked(image: Image.Image) -> tuple[NDArray[np.float32], float]:
    """How much of the paper's brightness ink takes at each pixel, (H, W) up to 1, and the deviation of the rest.

    The paper's brightness is the median of a wide neighbourhood, for strokes cover less than half of it. Strokes are
    dark if what departs from the paper farthest is darker: by the skewness of the differences.
    """
    small = scaled(image, working_size(image.size, min(SMALL, *image.size), 1))
    around = 2 * (min(small.size) // 8) + 1
    paper = cv2.resize(cv2.medianBlur(np.asarray(small), around), image.size, interpolation=cv2.INTER_LINEAR)
    pixels = np.asarray(image, np.float32)
    departs = pixels - paper
    if (departs * departs * departs).sum() > 0:
        pixels, paper = 255 - pixels, 255 - paper
    ink = ((paper - pixels) / np.maximum(paper, DARKEST, dtype=np.float32)).max(axis=2)
    return ink, 1.4826 * float(np.median(np.abs(ink - np.median(ink))))


def _with_a_pixel_of(sure: NDArray[np.bool_], faint: NDArray[np.bool_]) -> Strokes:
    """The connected parts of what is faint, that have a pixel of what is sure (hysteresis)."""
    count, labels = cv2.connectedComponents(faint.astype(np.uint8))
    keep = np.zeros(count, bool)
    keep[labels[sure & faint]] = True
    return (keep[labels] * 255).astype(np.uint8)
