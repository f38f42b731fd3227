"""Maps in levels of grey, by networks that see a picture at its own size."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.batches import back, in_batches, working_size
from maquette.conditions.options import option

SMALLEST, LARGEST = 256, 1024  # pixels, the short side of what a network sees unless told otherwise

RESOLUTION = option(
    None, "Short side of what the network sees, in pixels; without, the picture's own, from 256 to 1024.", 64, 4096
)


def greys(
    pictures: Sequence[Image.Image],
    resolution: int | None,
    multiple: int,
    look: Callable[[list[Image.Image]], NDArray[np.float32]],
    pixels: int,
) -> list[NDArray[np.float32]]:
    """What a network draws of each picture: (h, w) in [0, 1], of the picture's own size.

    Args:
        resolution: short side of what the network sees; None: the picture's own, from 256 to 1024.
        multiple: of which both sides are.
        look: pictures of one size in, (B, h, w) of that size in [0, 1] out.
        pixels: in a batch.
    """

    def seen(size: tuple[int, int]) -> tuple[int, int]:
        return working_size(size, resolution or min(max(min(size), SMALLEST), LARGEST), multiple)

    found = in_batches(pictures, seen, lambda group: list(look(group)), pixels)
    return [back(one, picture.size) for one, picture in zip(found, pictures, strict=True)]


def shown(levels: NDArray[np.float32]) -> Image.Image:
    """(h, w) from 0, black, to 1, white, as RGB; fractions of a level are cut off."""
    return Image.fromarray((levels.clip(0, 1) * 255).astype(np.uint8)).convert("RGB")
