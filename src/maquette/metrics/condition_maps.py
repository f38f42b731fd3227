"""How close two condition maps of one size are, as images: 1 for equal maps, or, where a function says so, an error.

A map shows less than what it was made from: depth has no unit, key points have no coordinates. The diorama's exact
values are compared in `maps`.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.metrics.maps import edge_f1, mean_iou, normal_accuracy, ssim

CLOSE = 0.1  # of the range of depths in the expected map
HUES = 18  # of Openpose's colours, 20 degrees apart, in which limbs and key points are drawn
REACH = 1 / 32  # of the shorter side: how far a limb may be off


def strokes(found: Image.Image, expected: Image.Image) -> float:
    """Edge F1 of where the maps are bright, within 2 pixels."""
    return edge_f1(_bright(found), _bright(expected))


def _bright(image: Image.Image) -> NDArray[np.bool_]:
    return np.asarray(image.convert("L")) > 127


def similarity(found: Image.Image, expected: Image.Image) -> float:
    """Structural similarity of the maps in grey. Raises `MaquetteError` for maps below 11 pixels a side."""
    return ssim(_levels(found), _levels(expected))


def _levels(image: Image.Image) -> NDArray[np.float64]:
    """Grey (H, W) in [0, 1]."""
    return np.asarray(image.convert("L"), np.float64) / 255


def disparities(found: Image.Image, expected: Image.Image) -> float:
    """Share of pixels within a tenth of the expected map's range, after fitting scale and offset by least squares.

    Networks predict disparity up to these two (Ranftl et al. 2020); a negative scale, far for near, is not fitted.
    """
    x, y = _levels(found), _levels(expected)
    return float((np.abs(_fitted(x, y) - y) <= CLOSE * np.ptp(y) + 1e-9).mean())


def _fitted(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """x (H, W) with the scale of 0 or more and the offset that bring it nearest to y (H, W)."""
    variance = x.var()
    scale = max(0.0, ((x - x.mean()) * (y - y.mean())).mean() / variance) if variance else 0.0
    return np.asarray(y.mean() + scale * (x - x.mean()))


def depth_ratio(found: Image.Image, expected: Image.Image) -> float:
    """δ₁: share of pixels whose depths are within a factor of 1.25, after fitting the disparities' scale and offset.

    A map's levels count as disparities, so that black, the far end, is at 1/255 of the nearest place's.
    """
    x, y = _levels(found), _levels(expected)
    fitted, truth = (np.maximum(values, 1 / 255) for values in (_fitted(x, y), y))
    return float((np.maximum(fitted / truth, truth / fitted) < 1.25).mean())


def depth_error(found: Image.Image, expected: Image.Image) -> float:
    """Root mean square difference of the levels in [0, 1], nothing fitted: an error, 0 for equal maps."""
    return float(np.sqrt(((_levels(found) - _levels(expected)) ** 2).mean()))


def normals(found: Image.Image, expected: Image.Image) -> float:
    """Share of the expected map's surface pixels whose normals are within 22.5 degrees."""
    return normal_accuracy(_vectors(found), _vectors(expected))


def _vectors(image: Image.Image) -> NDArray[np.float64]:
    """The vectors (H, W, 3) that colours stand for, in [-1, 1]."""
    return np.asarray(image.convert("RGB"), np.float64) / 127.5 - 1


def normal_error(found: Image.Image, expected: Image.Image) -> float:
    """Mean angle in degrees between the normals of the expected map's surface: an error; NaN where it shows none."""
    vectors, truth = _vectors(found), _vectors(expected)
    surface = np.linalg.norm(truth, axis=-1) > 0.5
    lengths = np.linalg.norm(vectors, axis=-1) * np.linalg.norm(truth, axis=-1)
    cosine = (vectors * truth).sum(axis=-1) / np.maximum(lengths, 1e-6)
    return float(np.degrees(np.arccos(cosine[surface].clip(-1, 1))).mean()) if surface.any() else float("nan")


def classes(found: Image.Image, expected: Image.Image) -> float:
    """Mean over the expected map's colours of the intersection over the union."""
    return mean_iou(_codes(found), _codes(expected))


def labelled_classes(found: Image.Image, expected: Image.Image) -> float:
    """The same where the expected map has a class, as in benchmarks: black is none. NaN for a map without classes."""
    codes, truth = _classified(found, expected)
    return mean_iou(codes, truth) if len(truth) else float("nan")


def accuracy(found: Image.Image, expected: Image.Image) -> float:
    """Share of pixels with the expected class; those without one, black, do not count. NaN without others."""
    codes, truth = _classified(found, expected)
    return float((codes == truth).mean()) if len(truth) else float("nan")


def _classified(found: Image.Image, expected: Image.Image) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both maps' colours as numbers (N,), where the expected one is not black."""
    codes, truth = _codes(found), _codes(expected)
    return codes[truth > 0], truth[truth > 0]


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
