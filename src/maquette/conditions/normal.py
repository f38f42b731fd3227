"""Normal maps: right is red, up is green, towards the viewer is blue."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def normal_map(normals: NDArray[np.floating]) -> Image.Image:
    """Unit normals (H, W, 3) in the camera's axes as a picture: [-1, 1] becomes [0, 255]; no surface is grey."""
    levels = np.clip(np.asarray(normals, np.float32) * 0.5 + 0.5, 0, 1)
    return Image.fromarray((levels * 255 + 0.5).astype(np.uint8))


def normals_of(picture: Image.Image) -> NDArray[np.float32]:
    """The unit normals that a normal map shows; 0 where it shows none."""
    vectors = np.asarray(picture, np.float32) / 127.5 - 1
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 0.5, vectors / np.maximum(length, 1e-6), 0).astype(np.float32)
