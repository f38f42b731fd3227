import numpy as np
import pytest
import torch
from PIL import Image

from maquette.errors import MaquetteError
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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_is_not_made(value) -> None:
    pixels = torch.zeros(2, 3, 8, 8)
    pixels[1, 0, 3, 4] = value
    with pytest.raises(MaquetteError, match="not finite"):
        from_signed(pixels)
