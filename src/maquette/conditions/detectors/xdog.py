"""Line drawings by an extended difference of Gaussians."""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from maquette.conditions.inference import grey_image
from maquette.conditions.spec import DetectorSpec, Options, option, per_image

MIN_SIGMA = 0.6  # pixels: narrower Gaussians respond to single pixels


@dataclass(frozen=True)
class XdogOptions(Options):
    sigma: float = option(1.4, "Sigma of the narrow Gaussian, in pixels at a short side of 512: fineness.", 0.1, 50)
    k: float = option(1.6, "Ratio of the wide Gaussian's sigma to the narrow one's: thickness.", 1.01, 10)
    sharpness: float = option(40, "p: weight of edges against brightness.", 0, 1000)
    threshold: float = option(0, "ε, on brightness: up to 0 only lines are drawn; above, dark surfaces too.", -2, 1)
    softness: float = option(10, "φ, slope of the threshold: 1 is soft, 100 hard.", 0.1, 1000)


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
    1 + tanh(φ (S − ε)). The map is 1 − T. Brightness is CIE L in [0, 1]. At ε = 0 flat surfaces are never drawn, and a
    line is where the narrow mean is below the wide one by more than 1 part in p.
    """
    lightness = cv2.cvtColor(np.asarray(image, np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0] / 100
    narrow = max(MIN_SIGMA, sigma * min(image.size) / 512)
    fine, coarse = (cv2.GaussianBlur(lightness, (0, 0), width) for width in (narrow, narrow * k))
    sharpened = (1 + sharpness) * fine - sharpness * coarse
    return grey_image(np.tanh(softness * np.maximum(0, threshold - sharpened)))


XDOG = DetectorSpec("xdog", "a line drawing (XDoG), white on black", per_image(xdog), XdogOptions)
