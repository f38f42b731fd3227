"""Loaded detectors: images in, condition maps out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from PIL import Image

from maquette.conditions.registry import detector_spec
from maquette.errors import MaquetteError
from maquette.foundation.images import Order, as_rgb, fit

MOST_PIXELS = 110_000_000  # about what the largest camera sensors have
LONGEST = 32_766  # pixels per side: the limit of OpenCV's remap


class Detector:
    """A detector whose weights are loaded once, for repeated use.

    Args:
        name: as in `maquette detect --list`.
        weights: the name of published weights, a file or a folder; by default the first published ones.
        device: as for `torch.device`; "auto" picks the fastest one available.

    Raises `MaquetteError` for an unknown name and for weights that cannot be loaded.
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
        """The condition map of one image, or a list of maps for several: RGB, the size of each image.

        Caption detectors return text. Detectors of the diorama also take scenes, and return their exact maps.
        Raises `MaquetteError` for unknown options and for values out of range.
        """
        self.spec.options.given(self.spec.name, options)
        single = not isinstance(images, Sequence)
        inputs: list[Any] = [images] if single else list(images)  # type: ignore[arg-type]
        if self.spec.of_scene and all(hasattr(item, "keypoints") for item in inputs):
            maps = [self.spec.of_scene(scene) for scene in inputs]
        else:
            record = self.spec.record
            results = self.find(inputs, **options)
            maps = [record.draw(result) for result in results] if record else results
            maps = maps if self.spec.outputs_text else [as_rgb(image) for image in maps]
        return maps[0] if single else maps

    def in_frame(
        self, image: Image.Image, size: tuple[int, int], order: Order = "frame, then detect", /, **options: Any
    ) -> Image.Image:
        """The condition map of an image in a frame of `size` (width, height): RGB, of that size.

        The image is scaled to cover the frame and cropped to it, as training and `maquette generate` do.

        Args:
            order: as the contract of a ControlNet has it; "detect, then resize" frames the map instead of the image.

        Raises `MaquetteError` as calling the detector does.
        """
        if order == "detect, then resize":
            return fit(self(image, **options), size, self.spec.kind)
        return self(fit(image, size), **options)

    def find(self, images: Sequence[Image.Image], **options: Any) -> list[Any]:
        """Key points or class numbers, where the detector has a record; otherwise maps, RGB or grey. One per image.

        Raises `MaquetteError` as calling the detector does.
        """
        parsed = self.spec.options.given(self.spec.name, options)
        return self._predict([_readable(image) for image in images], parsed) if len(images) else []


def _readable(image: Image.Image) -> Image.Image:
    """The image as RGB. PIL decodes lazily, so a broken file may only show here."""
    if not isinstance(image, Image.Image):
        raise MaquetteError(f"Detectors take PIL images, not {type(image).__name__}.")
    if not 0 < min(image.size) <= max(image.size) <= LONGEST:
        raise MaquetteError(
            f"An image for detectors has 1 to {LONGEST:,} pixels per side; this one has {image.width}×{image.height}."
        )
    if image.width * image.height > MOST_PIXELS:
        raise MaquetteError(
            f"An image for detectors has {MOST_PIXELS:,} pixels at most, whose maps some of them make in 4 GB of "
            f"memory; this one has {image.width}×{image.height}. Make it smaller first."
        )
    try:
        return as_rgb(image)
    except Exception as error:  # broken images make decoders fail in more ways than can be listed
        raise MaquetteError(f"The image cannot be read ({error}); save it again or use another.") from error


def detect(
    name: str, image: Image.Image, *, weights: str | Path | None = None, device: str = "auto", **options: Any
) -> Image.Image:
    """The condition map of an image, at the size of the image: `detect("canny", image, low=100, high=200)`.

    Raises `MaquetteError` for an unknown detector or option, and for values out of range.
    """
    detector_spec(name).options.given(name, options)  # fail before weights are downloaded
    return Detector(name, weights, device)(image, **options)
