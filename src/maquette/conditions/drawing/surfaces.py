"""Maps of surfaces: depth (near is bright) and normals (as colours)."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def depth_map(depth: NDArray[np.floating]) -> Image.Image:
    """Depth (H, W) in metres as a grey image of disparity, 1 / depth as MiDaS predicts it; the nearest is white."""
    disparity = 1 / np.maximum(np.asarray(depth, np.float32), 1e-3)
    levels = disparity / max(float(disparity.max()), 1e-9)
    return Image.fromarray((levels * 255 + 0.5).astype(np.uint8)).convert("RGB")


def disparity_map(disparity: NDArray[np.floating], clip: float = 0) -> Image.Image:
    """Disparity (H, W) of any scale and offset as a grey image, from black (far) to white (near).

    Args:
        clip: fraction of the pixels to clip at each end, 0 to 0.4; 0 as for the published ControlNets.
    """
    low, high = np.quantile(disparity, [clip, 1 - clip])
    levels = np.clip((disparity - low) / max(float(high - low), 1e-9), 0, 1)
    return Image.fromarray((levels * 255).astype(np.uint8)).convert("RGB")


def normal_map(normals: NDArray[np.floating]) -> Image.Image:
    """Unit normals (H, W, 3) in camera axes as an image: [-1, 1] becomes [0, 255]; zero, no surface, is grey."""
    levels = np.clip(np.asarray(normals, np.float32) * 0.5 + 0.5, 0, 1)
    return Image.fromarray((levels * 255 + 0.5).astype(np.uint8))
