"""What may be given as a condition map or a mask: images, paths, arrays or tensors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.foundation.images import as_mask, as_rgb, open_image
from maquette.foundation.pixels import to_unit

Picture = Image.Image | str | Path | NDArray[Any]
"""An image, its path, or an array (H, W) or (H, W, 3): bytes, or floats in [0, 1]."""
Condition = Picture | Tensor | Sequence[Image.Image | str | Path]
"""A condition map for all images; or one for each, as a list, an array (N, H, W, 3) or a tensor (N, 3, H, W)."""
Maps = list[Image.Image] | Tensor
"""Condition maps that have been read: a list of images, or a tensor (1 or N, 3, H, W), or 6 as `to_paint` makes it."""


def read_maps(condition: Condition) -> Maps:
    """Read condition maps: a list of images, or a tensor (1 or N, 3, H, W) in [0, 1], −1 where inpainting masks it.

    Raises `MaquetteError` for anything else, an empty list, a file that cannot be read, and for values out of range.
    """
    if isinstance(condition, np.ndarray):
        return _from_array(condition, "condition")
    if isinstance(condition, Tensor):
        plain = condition.layout == torch.strided and not condition.is_meta and not condition.is_complex()
        if not plain or condition.ndim != 4:
            kind = f"of {condition.dtype} on {condition.device}, {condition.layout}" if not plain else ""
            shape = " ".join(filter(None, (str(tuple(condition.shape)), kind)))
            raise MaquetteError(f"A condition tensor is (1 or N, 3, height, width) in [0, 1], not {shape}.")
        _check_range(condition, "condition tensor")
        return condition
    if isinstance(condition, Image.Image | str | Path):
        return [read_picture(condition, "condition")]
    listed = isinstance(condition, Sequence) and len(condition) > 0
    if listed and all(isinstance(picture, Image.Image | str | Path) for picture in condition):
        return [read_picture(picture, "condition") for picture in condition]
    raise MaquetteError(
        "A control's condition is an image, a path, an array (H, W, 3), a tensor (1, 3, H, W) in [0, 1], or a list of "
        f"images or paths, one for each image generated, not {_named(condition)}."
    )


def read_picture(picture: Picture, what: str) -> Image.Image:
    """One image in whatever mode it has, from an image, a path, or an array (H, W) or (H, W, 3).

    Args:
        what: its name in error messages.

    Raises `MaquetteError` for anything else, and for a file that cannot be read.
    """
    if isinstance(picture, Image.Image):
        if 0 in picture.size:
            raise MaquetteError(f"A {what} has pixels; this image is {picture.width}×{picture.height}.")
        return picture
    if isinstance(picture, str | Path):
        return open_image(picture)
    if isinstance(picture, np.ndarray) and picture.ndim in (2, 3):
        array = _from_array(picture, what)
        return array[0] if isinstance(array, list) else _to_image(array[0])
    raise MaquetteError(f"A {what} is an image, a path or an array (H, W) or (H, W, 3), not {_named(picture)}.")


def read_mask(mask: Picture) -> Image.Image:
    """A mask, RGB, from an image, a path, or an array (H, W) or (H, W, 3); see `as_mask`.

    Raises `MaquetteError` for anything else, and for a file that cannot be read.
    """
    if isinstance(mask, str | Path):
        return open_image(mask, as_mask)
    return as_mask(read_picture(mask, "mask"))


def to_paint(picture: Picture, mask: Picture, map: Picture | None = None) -> Tensor:
    """The condition of a ControlNet that paints in: a picture, −1 where its mask is white: (1, 3, H, W), else [0, 1].

    Args:
        picture, mask: of one size, that of the images to be generated.
        map: of the same size, for a ControlNet that follows a map meanwhile (Z-Image's): it comes first, (1, 6, H, W).

    Raises `MaquetteError` for anything else, and for files that cannot be read.
    """
    shown, white = as_rgb(read_picture(picture, "picture to paint in")), read_mask(mask).convert("L")
    followed = None if map is None else as_rgb(read_picture(map, "condition map"))
    for name, other in (("mask", white), ("map", followed)):
        if other is not None and shown.size != other.size:
            raise MaquetteError(
                f"A picture to paint in and its {name} are of one size, not {shown.width}×{shown.height} and "
                f"{other.width}×{other.height}; scale or crop one to the other."
            )
    painted = to_unit(shown)[None].masked_fill(to_unit(white)[None, :1] >= 0.5, -1)
    return painted if followed is None else torch.cat([to_unit(followed)[None], painted], dim=1)


def map_size(maps: Maps) -> tuple[int, int]:
    """(width, height) of the first map as it is displayed; of a tensor (1 or N, 3, H, W) of all."""
    return as_rgb(maps[0]).size if isinstance(maps, list) else (maps.shape[-1], maps.shape[-2])


def _from_array(array: NDArray[Any], what: str) -> Maps:
    """Bytes and booleans as images, since they are resized as such; floats in [0, 1] as a tensor (N, 3, H, W)."""
    many = array if array.ndim == 4 else array[None]
    many = many[..., None].repeat(3, axis=-1) if many.ndim == 3 else many
    if many.ndim != 4 or many.shape[-1] != 3 or 0 in many.shape:
        raise MaquetteError(f"A {what} array is (H, W), (H, W, 3) or (N, H, W, 3), not {array.shape}.")
    if array.dtype == bool:
        many = many.astype(np.uint8) * 255
    if many.dtype == np.uint8:
        return [Image.fromarray(pixels) for pixels in many]
    if not np.issubdtype(array.dtype, np.floating):
        raise MaquetteError(f"A {what} array holds bytes, or floats from 0 to 1, not {array.dtype}.")
    tensor = torch.from_numpy(np.ascontiguousarray(many.transpose(0, 3, 1, 2), np.float32))
    _check_range(tensor, f"{what} array")
    return tensor


def _to_image(pixels: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] as an image."""
    return Image.fromarray((pixels.clamp(0, 1).movedim(0, -1) * 255).round().to(torch.uint8).numpy())


def _check_range(values: Tensor, what: str) -> None:
    """Raises `MaquetteError` for an empty tensor of any shape, and for one with values outside [−1, 1]."""
    if not values.numel():
        raise MaquetteError(f"A {what} has pixels; this one is {tuple(values.shape)}.")
    low, high = float(values.min()), float(values.max())
    if not -1 <= low <= high <= 1:
        raise MaquetteError(
            f"A {what} holds values from 0 to 1 (-1 where inpainting masks it), not {low:g} to {high:g}."
        )


def _named(value: object) -> str:
    """A value's type, as errors name it; of a sequence with those of its items."""
    kind = type(value).__name__
    if not isinstance(value, Sequence) or isinstance(value, str):
        return kind
    return f"a {kind} of {', '.join(sorted({type(item).__name__ for item in value})) or 'nothing'}"
