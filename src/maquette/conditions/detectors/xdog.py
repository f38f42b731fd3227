"""Line drawings by an extended difference of Gaussians."""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from maquette.conditions.inference import shown
from maquette.conditions.options import Options, option
from maquette.conditions.spec import DetectorSpec, each

FINEST = 0.6  # pixels: narrower Gaussians see single pixels


@dataclass(frozen=True)
class XdogOptions(Options):
    sigma: float = option(1.4, "Of the narrow Gaussian, in pixels where the short side has 512: fineness.", 0.1, 50)
    k: float = option(1.6, "The wide Gaussian's sigma, in times the narrow one's: thickness.", 1.01, 10)
    sharpness: float = option(40, "p: how much edges weigh against brightness.", 0, 1000)
    threshold: float = option(0, "Of brightness, ε: up to 0 only lines are drawn; above, dark surfaces too.", -2, 1)
    softness: float = option(10, "φ, of the threshold: 1 is soft, 100 hard.", 0.1, 1000)


def xdog(
    image: Image.Image,
    sigma: float = 1.4,
    k: float = 1.6,
    sharpness: float = 40,
    threshold: float = 0,
    softness: float = 10,
) -> Image.Image:
    """White lines on black, where an image is darker than its surroundings.

    Winnemöller, Kyprianidis, Olsen, "XDoG: an extended difference-of-Gaussians compendium", 2012: the sharpened
    brightness S = (1 + p) G_σ − p G_kσ of its eq. 7, and its soft threshold T(S) = 1 where S ≥ ε, else
    1 + tanh(φ (S − ε)). The map is 1 − T. Brightness is CIE L in [0, 1]. At ε = 0 a flat surface is never drawn, and a
    line is where the narrow mean falls short of the wide one by more than 1 part in p.
    """
    lightness = cv2.cvtColor(np.asarray(image, np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0] / 100
    narrow = max(FINEST, sigma * min(image.size) / 512)
    fine, coarse = (cv2.GaussianBlur(lightness, (0, 0), one) for one in (narrow, narrow * k))
    sharpened = (1 + sharpness) * fine - sharpness * coarse
    return shown(np.tanh(softness * np.maximum(0, threshold - sharpened)))


XDOG = DetectorSpec("xdog", "a line drawing (XDoG), white on black", each(xdog), XdogOptions)
