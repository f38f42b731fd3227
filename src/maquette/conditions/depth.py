"""Depth maps: near is bright."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def depth_map(depth: NDArray[np.floating]) -> Image.Image:
    """Metres (H, W) as a grey picture: disparity 1 / depth, as MiDaS predicts it, the nearest pixel white."""
    disparity = 1 / np.maximum(np.asarray(depth, np.float32), 1e-3)
    levels = disparity / max(float(disparity.max()), 1e-9)
    return Image.fromarray((levels * 255 + 0.5).astype(np.uint8)).convert("RGB")
