"""Normal maps: right is red, up is green, towards the viewer is blue."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def normal_map(normals: NDArray[np.floating]) -> Image.Image:
    """Unit normals (H, W, 3) in the camera's axes as a picture: [-1, 1] becomes [0, 255]; no surface is grey."""
    levels = np.clip(np.asarray(normals, np.float32) * 0.5 + 0.5, 0, 1)
    return Image.fromarray((levels * 255 + 0.5).astype(np.uint8))
