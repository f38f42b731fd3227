"""Masks: white where something may change or a control acts, grey for a share of it."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from maquette.backbones.protocol import Slot
from maquette.foundation.images import as_mask
from maquette.foundation.pixels import to_unit


def framed_mask(mask: Image.Image, size: tuple[int, int]) -> Tensor:
    """A mask as (1, 1, H, W) in [0, 1], scaled to cover `size` (width, height) and cropped at its centre as images are.

    Scaled by area, since other filters ring: they would lighten black beside an edge.
    """
    white = as_mask(mask)
    if white.size != size:
        white = ImageOps.fit(white, size, Image.Resampling.BOX)
    return to_unit(white).mean(dim=0)[None, None]


def slot_masks(mask: Tensor, slots: Sequence[Slot], downscale: int) -> list[Tensor]:
    """A mask (1, 1, H, W) at the resolution of each slot, (1, 1, h, w), averaged over area.

    Args:
        downscale: pixels per latent cell, along a side.
    """
    by_scale = {slot.downscale: F.avg_pool2d(mask, downscale * slot.downscale) for slot in slots}
    return [by_scale[slot.downscale] for slot in slots]


def free_cells(mask: Tensor, downscale: int, reach: int) -> Tensor:
    """Latent cells, bool (1, 1, h, w), within `reach` cells of any pixel of a mask (1, 1, H, W) that is not black.

    Args:
        downscale: pixels per latent cell, along a side.
    """
    cells = F.max_pool2d(mask, downscale)
    return F.max_pool2d(cells, 2 * reach + 1, stride=1, padding=reach) > 0


def soft_edge(mask: Tensor, feather: int) -> Tensor:
    """A mask (1, 1, H, W) whose edge rises over `feather` pixels inside it, in equal steps; it never grows.

    Where the mask is too narrow for that, the edge is steeper, so that the middle of any part of it is as white as it
    was. The border of the image is no edge.
    """
    levels: NDArray[np.uint8] = (mask[0, 0] > 0).numpy().astype(np.uint8)
    depth, room = np.zeros(levels.shape, np.float32), np.zeros(levels.shape, np.float32)
    for radius in range(max(1, feather)):
        core = cv2.erode(levels, _square(radius))
        depth += core  # how many squares around the pixel fit
        room += cv2.dilate(core, _square(radius))  # how many squares that contain the pixel fit
    return mask * torch.from_numpy(depth / np.maximum(room, 1))


def _square(radius: int) -> NDArray[np.uint8]:
    return np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
