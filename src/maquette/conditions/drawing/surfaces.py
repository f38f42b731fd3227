"""Maps of surfaces: depth (near is bright) and normals (as colours)."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def depth_map(depth: NDArray[np.floating]) -> Image.Image:
    """Depth (H, W) in metres as a grey image of disparity, 1 / depth as MiDaS predicts it; the nearest is white."""
    disparity = 1 / np.maximum(np.asarray(depth, np.float32), 1e-3)
    levels = disparity / max(float(disparity.max()), 1e-9)
    return Image.fromarray((levels * 255 + 0.5).astype(np.uint8)).convert("RGB")


def disparity_map(
    disparity: NDArray[np.floating], clip: float = 0, measured: NDArray[np.bool_] | None = None
) -> Image.Image:
    """Disparity (H, W) of any scale and offset as a grey image, from black (far) to white (near).

    Args:
        clip: fraction of the pixels to clip at each end, 0 to 0.4; 0 as for the published ControlNets.
        measured: (H, W), which pixels count; all others are black. By default all count.
    """
    counted = disparity if measured is None else disparity[measured]
    low, high = np.quantile(counted, [clip, 1 - clip]) if counted.size else (0, 0)
    levels = np.clip((disparity - low) / max(float(high - low), 1e-9), 0, 1)
    if measured is not None:
        levels = np.where(measured, levels, 0)
    return Image.fromarray((levels * 255).astype(np.uint8)).convert("RGB")


def normal_map(normals: NDArray[np.floating]) -> Image.Image:
    """Unit normals (H, W, 3) in camera axes as an image: [-1, 1] becomes [0, 255]; zero, no surface, is grey."""
    levels = np.clip(np.asarray(normals, np.float32) * 0.5 + 0.5, 0, 1)
    return Image.fromarray((levels * 255 + 0.5).astype(np.uint8))
