"""The size of generated images: the one requested, or a condition map's or a start image's."""

import warnings

from PIL import Image

from maquette.base import Base
from maquette.controlnet.control import Control
from maquette.controlnet.maps import map_size
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.images import as_rgb

LARGEST = 4096  # pixels, a side


def choose_size(
    base: Base, requested: tuple[int, int] | None, controls: list[Control], image: Image.Image | None
) -> tuple[int, int]:
    """The size requested, else the first condition map's or the start image's, rounded, else the base's default."""
    if requested is not None:
        check_size(base, requested)
        return requested
    if controls:
        inherited = map_size(controls[0].maps)
    elif image is not None:
        inherited = as_rgb(image).size
    else:
        check_size(base, (base.size, base.size))
        return (base.size, base.size)
    size = nearest_size(base, inherited)
    if size != inherited:
        warnings.warn(
            f"The {'condition' if controls else 'start image'} is {inherited[0]}×{inherited[1]} pixels and "
            f"the base {base.name!r} takes multiples of {base.size_multiple} up to {LARGEST}: the images are "
            f"{size[0]}×{size[1]}; give size= for another.",
            MaquetteWarning,
            stacklevel=3,
        )
    return size


def check_size(base: Base, size: tuple[int, int]) -> None:
    """Check that width and height suit the base.

    Raises `MaquetteError` for anything but two multiples of the base's step up to `LARGEST` pixels.
    """
    step = base.size_multiple
    is_pair = isinstance(size, tuple | list) and len(size) == 2 and all(isinstance(side, int) for side in size)
    if not is_pair or any(side < step or side % step or side > LARGEST for side in size):
        hint = f"; {nearest_size(base, size)} would be valid" if is_pair else ""
        raise MaquetteError(
            f"size is (width, height) in multiples of {step} pixels from {step} to {LARGEST} for the base "
            f"{base.name!r}, not {size!r}{hint}."
        )


def nearest_size(base: Base, size: tuple[int, int]) -> tuple[int, int]:
    """The nearest size that the base supports; one that is too large is scaled down, keeping its aspect ratio."""
    step, most = base.size_multiple, LARGEST // base.size_multiple * base.size_multiple
    scale = min(1.0, most / max(*size, 1))
    width, height = (max(step, round(side * scale / step) * step) for side in size)
    return width, height
