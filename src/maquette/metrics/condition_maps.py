"""How close two condition maps of one size are, as images: one function for each kind of map, 1 for equal maps.

A map shows less than what it was made from: depth has no unit, key points have no coordinates. The diorama's exact
values are compared in `maps`.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.metrics.maps import edge_f1, mean_iou, normal_accuracy

CLOSE = 0.1  # of the range of depths in the expected map
HUES = 18  # of Openpose's colours, 20 degrees apart, in which limbs and key points are drawn
REACH = 1 / 32  # of the shorter side: how far a limb may be off


def strokes(found: Image.Image, expected: Image.Image) -> float:
    """Edge F1 of where the maps are bright, within 2 pixels."""
    return edge_f1(_bright(found), _bright(expected))


def _bright(image: Image.Image) -> NDArray[np.bool_]:
    return np.asarray(image.convert("L")) > 127


def disparities(found: Image.Image, expected: Image.Image) -> float:
    """Share of pixels within a tenth of the expected map's range, after fitting scale and offset by least squares.

    Networks predict disparity up to these two (Ranftl et al. 2020); a negative scale, far for near, is not fitted.
    """
    x, y = (np.asarray(image.convert("L"), np.float64).ravel() for image in (found, expected))
    variance = x.var()
    scale = max(0.0, ((x - x.mean()) * (y - y.mean())).mean() / variance) if variance else 0.0
    fitted = y.mean() + scale * (x - x.mean())
    return float((np.abs(fitted - y) <= CLOSE * np.ptp(y)).mean())


def normals(found: Image.Image, expected: Image.Image) -> float:
    """Share of the expected map's surface pixels whose normals are within 22.5 degrees."""
    return normal_accuracy(_vectors(found), _vectors(expected))


def _vectors(image: Image.Image) -> NDArray[np.float64]:
    """The vectors (H, W, 3) that colours stand for, in [-1, 1]."""
    return np.asarray(image.convert("RGB"), np.float64) / 127.5 - 1


def classes(found: Image.Image, expected: Image.Image) -> float:
    """Mean over the expected map's colours of the intersection over the union."""
    return mean_iou(_codes(found), _codes(expected))


def _codes(image: Image.Image) -> NDArray[np.int64]:
    """Colours (H, W) as one number each."""
    return np.asarray(np.asarray(image.convert("RGB"), np.int64) @ [65536, 256, 1])


def limbs(found: Image.Image, expected: Image.Image) -> float:
    """Mean over Openpose's colours in the expected map of the F1 of what is drawn in them; NaN if it shows nobody."""
    tolerance = max(2, round(REACH * min(expected.size)))
    drawn, wanted = _hues(found), _hues(expected)
    present = [hue for hue in range(HUES) if (wanted == hue).any()]
    scores = [edge_f1(drawn == hue, wanted == hue, tolerance) for hue in present]
    return float(np.mean(scores)) if scores else float("nan")


def _hues(image: Image.Image) -> NDArray[np.int64]:
    """The colour (H, W) of each pixel by number, -1 where it is black, grey or white."""
    hue, saturation, value = cv2.split(cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2HSV))
    numbers = np.round(hue.astype(np.float64) / 180 * HUES).astype(np.int64) % HUES
    return np.where((saturation > 127) & (value > 63), numbers, -1)
