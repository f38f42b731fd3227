"""Images as tensors and back: value ranges and channel order are handled here alone.

PIL images are RGB bytes. Condition tensors are (B, 3, H, W) in [0, 1], RGB.
An autoencoder's pixels are (B, 3, H, W) in [-1, 1].
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.foundation.images import as_rgb


def to_pixels(image: Image.Image) -> Tensor:
    """An image as (H, W, 3) bytes: a quarter of the memory of `to_unit`, for storage and transfer."""
    return torch.from_numpy(np.array(as_rgb(image)))


def unit(pixels: Tensor) -> Tensor:
    """Bytes (..., H, W, 3) as (..., 3, H, W) in [0, 1]."""
    return pixels.movedim(-1, -3).contiguous().float() / 255


def signed(pixels: Tensor) -> Tensor:
    """Bytes (..., H, W, 3) as (..., 3, H, W) in [-1, 1]."""
    return unit(pixels) * 2 - 1


def to_unit(image: Image.Image) -> Tensor:
    """An image as (3, H, W) in [0, 1]."""
    return unit(to_pixels(image))


def to_signed(image: Image.Image) -> Tensor:
    """An image as (3, H, W) in [-1, 1]."""
    return signed(to_pixels(image))


def from_signed(pixels: Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [-1, 1] as images; values outside the range are clipped.

    Raises `MaquetteError` for values that are not finite numbers, which would be black.
    """
    if not all(torch.isfinite(extreme) for extreme in torch.aminmax(pixels)):
        raise MaquetteError(
            "A decoded image holds values that are not finite numbers, so it was not made. Half precision (float16) is "
            "too narrow for some autoencoders: use dtype='bfloat16' or 'float32'."
        )
    unit = (pixels.detach().float().cpu() / 2 + 0.5).clamp(0, 1)
    levels = (unit.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    return [Image.fromarray(image) for image in levels]
