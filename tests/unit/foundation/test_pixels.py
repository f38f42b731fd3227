import numpy as np
import torch
from PIL import Image

from maquette.foundation.pixels import from_signed, to_signed, to_unit


def test_bytes_survive_the_round_trip() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    assert np.array_equal(np.asarray(from_signed(to_signed(image)[None])[0]), pixels)
    assert to_unit(image).shape == (3, 7, 5)
    assert to_unit(image).min() >= 0
    assert to_unit(image).max() <= 1


def test_values_outside_are_clipped() -> None:
    assert np.asarray(from_signed(torch.full((1, 3, 2, 2), 3.0))[0]).min() == 255
