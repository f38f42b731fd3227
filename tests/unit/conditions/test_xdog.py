"""XDoG as its equations have it."""

import numpy as np
import pytest
from PIL import Image

from maquette.conditions.detectors.xdog import xdog


def grey(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(levels.astype(np.uint8)).convert("RGB")


def ink(image: Image.Image, **options: float) -> np.ndarray:
    return np.asarray(xdog(image, **options))[..., 0]


def line(size: int, ground: int, level: int) -> Image.Image:
    levels = np.full((size, size), ground)
    levels[:, size // 2 - size // 128 : size // 2 + size // 128] = level
    return grey(levels)


def blurred(signal: np.ndarray, sigma: float) -> np.ndarray:
    reach = np.arange(-60, 61)
    weights = np.exp(-(reach**2) / (2 * sigma**2))
    return np.convolve(np.pad(signal, 60, mode="edge"), weights / weights.sum(), mode="valid")


def lightness(levels: np.ndarray) -> np.ndarray:
    """CIE L of grey sRGB levels, in [0, 1]."""
    unit = levels / 255
    light = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    return np.where(light > 0.008856, 1.16 * np.cbrt(light) - 0.16, 9.033 * light)


def test_it_is_equation_7_and_its_soft_threshold() -> None:
    row = np.repeat([200, 90, 220, 60, 120, 118, 40, 230], 64)
    seen = ink(grey(np.tile(row, (512, 1))), sigma=3, k=2, sharpness=8, threshold=0.3, softness=4)
    bright = lightness(row)
    sharpened = 9 * blurred(bright, 3) - 8 * blurred(bright, 6)
    tone = np.where(sharpened >= 0.3, 1, 1 + np.tanh(4 * (sharpened - 0.3)))
    expected = 255 * (1 - tone)
    inner = slice(40, -40)  # away from the border, which OpenCV mirrors
    assert expected[inner].max() > 200 and expected[inner].min() == 0
    assert np.abs(seen[256].astype(float) - expected)[inner].max() < 3


@pytest.mark.parametrize("level", [0, 20, 128, 255])
def test_flat_surfaces_are_never_drawn_unless_a_threshold_asks_for_dark_ones(level: int) -> None:
    flat = grey(np.full((70, 90), level))
    assert not ink(flat).any()
    assert ink(flat, threshold=0.4).all() == (level < 90)


def test_a_dark_line_is_drawn_in_its_middle_and_a_light_one_is_not() -> None:
    assert ink(line(256, 200, 60))[128, 128] > 200
    assert ink(line(256, 60, 200))[128, 128] == 0


def test_lines_scale_with_the_image() -> None:
    small, large = ink(line(256, 200, 60)), ink(line(1024, 200, 60))
    assert abs((small > 127).mean() - (large > 127).mean()) < 0.004
