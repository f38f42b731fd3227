"""Detectors, opened: images in, maps out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from PIL import Image

from maquette.conditions.registry import detector_spec
from maquette.errors import MaquetteError
from maquette.foundation.images import as_rgb

LONGEST = 32_766  # pixels a side: OpenCV remaps no longer ones


class Detector:
    """A detector, opened for repeated use: its weights are loaded once.

    Args:
        name: as in `maquette detect --list`.
        weights: a name among its published weights, a file or a folder; without, the usual ones.
        device: as `torch.device` takes it; "auto" is the fastest that is there.

    Raises `MaquetteError` for an unknown name and for weights that cannot be had.
    """

    def __init__(self, name: str, weights: str | Path | None = None, device: str = "auto") -> None:
        self.spec = detector_spec(name)
        self.spec.check_weights(weights)
        self._predict = self.spec.load(weights, device)

    @overload
    def __call__(self, images: Image.Image, **options: Any) -> Image.Image: ...

    @overload
    def __call__(self, images: Sequence[Image.Image], **options: Any) -> list[Image.Image]: ...

    def __call__(self, images: Image.Image | Sequence[Image.Image], **options: Any) -> Any:
        """The map of an image, or of each of several: RGB, of the image's own size.

        Of captions the words. A scene of the diorama may stand for an image where a detector knows its exact map.
        Raises `MaquetteError` for options that the detector does not have, and for values out of range.
        """
        self.spec.options.given(self.spec.name, options)
        single = not isinstance(images, Sequence)
        given: list[Any] = [images] if single else list(images)  # type: ignore[arg-type]
        if self.spec.of_scene and all(hasattr(one, "keypoints") for one in given):
            maps = [self.spec.of_scene(one) for one in given]
        else:
            record = self.spec.record
            found = self.find(given, **options)
            maps = [record.draw(one) for one in found] if record else found
            maps = maps if self.spec.outputs_text else [as_rgb(one) for one in maps]
        return maps[0] if single else maps

    def find(self, images: Sequence[Image.Image], **options: Any) -> list[Any]:
        """What the maps are drawn from, of kinds with a record (key points, class numbers); else maps, RGB or grey."""
        chosen = self.spec.options.given(self.spec.name, options)
        return self._predict([_readable(one) for one in images], chosen) if len(images) else []


def _readable(image: Image.Image) -> Image.Image:
    """As the eye sees it; a file that PIL opened may turn out to be broken only now."""
    assert isinstance(image, Image.Image), "detectors take PIL images"
    if not 0 < min(image.size) <= max(image.size) <= LONGEST:
        raise MaquetteError(
            f"An image for detectors has 1 to {LONGEST:,} pixels a side; this one is {image.width}×{image.height}."
        )
    try:
        return as_rgb(image)
    except (OSError, SyntaxError) as error:
        raise MaquetteError(f"The image cannot be read ({error}); save it anew or give another.") from error


def detect(
    name: str, image: Image.Image, *, weights: str | Path | None = None, device: str = "auto", **options: Any
) -> Image.Image:
    """The condition map of an image, at the image's own size: `detect("canny", image, low=100, high=200)`.

    Raises `MaquetteError` for an unknown detector or option, and for values out of range.
    """
    detector_spec(name).options.given(name, options)  # before weights are fetched
    return Detector(name, weights, device)(image, **options)
