"""Detectors by name."""

import inspect
from collections.abc import Callable
from typing import Any

from PIL import Image

from maquette.conditions.canny import canny
from maquette.conditions.scribble import scribble
from maquette.errors import MaquetteError
from maquette.foundation.images import as_rgb
from maquette.foundation.registry import Registry, unknown

Detector = Callable[..., Image.Image]
"""An RGB picture and options in, a condition map of the picture's own size out."""

detectors: Registry[Detector] = Registry("detector")
detectors.add("canny", canny)
detectors.add("scribble", scribble)


def detect(name: str, image: Image.Image, **options: Any) -> Image.Image:
    """The condition map of a picture, at the picture's own size: `detect("canny", image, low=100, high=200)`.

    Raises `MaquetteError` for an unknown detector or option, and for values out of range.
    """
    detector = detectors[name]
    known = list(inspect.signature(detector).parameters)[1:]
    for option in options:
        if option not in known:
            raise MaquetteError(unknown(f"option of {name}", option, known))
    return detector(as_rgb(image), **options)
