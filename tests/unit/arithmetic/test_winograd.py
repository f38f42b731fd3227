"""Convolutions in tiles against their definition."""

import pytest
import torch
import torch.nn.functional as F

from maquette.arithmetic import winograd
from maquette.arithmetic.winograd import DOUBLED, PLAIN, convolved


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(("count", "height", "width"), [(1, 2, 2), (3, 6, 8), (2, 10, 4)])
@pytest.mark.parametrize("tiles", [1, 5, 30, 512])
@pytest.mark.parametrize("biased", [True, False])
def test_equals_a_convolution(layout, count, height, width, tiles, biased, monkeypatch) -> None:
    monkeypatch.setattr(winograd, "TILES", tiles)
    torch.manual_seed(0)
    x = torch.randn(count, 6, height, width).to(memory_format=layout)
    weight, bias = torch.randn(7, 6, 3, 3), torch.randn(7) if biased else None
    expected = F.conv2d(x.double(), weight.double(), bias.double() if biased else None, padding=1)
    found = convolved(x, weight, bias)
    assert torch.allclose(found.double(), expected, atol=2e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("count", "height", "width"), [(1, 1, 2), (3, 5, 8), (2, 6, 3)])
@pytest.mark.parametrize("tiles", [1, 5, 30, 512])
@pytest.mark.parametrize("biased", [True, False])
def test_equals_doubling_and_a_convolution(count, height, width, tiles, biased, monkeypatch) -> None:
    monkeypatch.setattr(winograd, "TILES", tiles)
    torch.manual_seed(0)
    x, weight, bias = torch.randn(count, 6, height, width), torch.randn(7, 6, 3, 3), torch.randn(7) if biased else None
    larger = F.interpolate(x.double(), scale_factor=2)
    expected = F.conv2d(larger, weight.double(), bias.double() if biased else None, padding=1)
    assert torch.allclose(convolved(x, weight, bias, DOUBLED).double(), expected, atol=2e-5)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-6), (torch.bfloat16, 0.008)], ids=str)
def test_it_is_off_by_about_four_times_the_rounding_of_the_plain_way(dtype, bound) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(1, 256, 16, 16), torch.randn(256, 256, 3, 3) / 48, torch.randn(256) / 10
    x, weight, bias = (value.to(dtype) for value in (x, weight, bias))
    for scheme, plain in ((PLAIN, x), (DOUBLED, F.interpolate(x, scale_factor=2))):
        exact = F.conv2d(plain.double(), weight.double(), bias.double(), padding=1)
        assert (convolved(x, weight, bias, scheme) - exact).std() < bound * exact.std()
