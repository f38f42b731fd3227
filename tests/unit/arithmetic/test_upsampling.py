"""Upsampling with folded taps against its definition, in both layouts."""

import pytest
import torch
import torch.nn.functional as F

from maquette.arithmetic.upsampling import upsampled


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(("height", "width"), [(1, 2), (5, 8)])
@pytest.mark.parametrize("biased", [True, False])
def test_equals_doubling_and_a_convolution(layout, height, width, biased) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, height, width).to(memory_format=layout)
    weight, bias = torch.randn(7, 6, 3, 3), torch.randn(7) if biased else None
    expected = F.conv2d(
        F.interpolate(x.double(), scale_factor=2), weight.double(), bias.double() if biased else None, padding=1
    )
    found = upsampled(x, weight, bias)
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert found.is_contiguous(memory_format=layout)


def test_in_bfloat16_it_is_as_exact_as_the_plain_way() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(1, 64, 16, 16).bfloat16(), torch.randn(64, 64, 3, 3).bfloat16() / 24
    exact = F.conv2d(F.interpolate(x.double(), scale_factor=2), weight.double(), padding=1)
    plain = F.conv2d(F.interpolate(x, scale_factor=2), weight, padding=1)
    error, plain_error = (float((y.double() - exact).std()) for y in (upsampled(x, weight, None), plain))
    assert 0 < error < 1.5 * plain_error
