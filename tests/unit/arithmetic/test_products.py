"""Products of matrices by oneDNN."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from maquette.arithmetic import products as module
from maquette.arithmetic.attention import attend
from maquette.arithmetic.fast import fast
from maquette.arithmetic.products import linear, products


@pytest.fixture(autouse=True)
def _everything_is_large(monkeypatch) -> None:
    monkeypatch.setattr(module, "ENOUGH", 0)
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        pytest.skip("PyTorch has no oneDNN here")
    monkeypatch.setattr(module, "_has_onednn", lambda: True)  # whosever processor this is


@pytest.mark.parametrize("layout", ["plain", "strided", "one row", "no row"])
def test_a_linear_map_is_that_of_double_precision(layout) -> None:
    x = {
        "plain": torch.randn(2, 30, 24),
        "strided": torch.randn(2, 24, 30).mT,
        "one row": torch.randn(24),
        "no row": torch.randn(0, 24),
    }[layout]
    weight, bias = torch.randn(24, 16).mT, torch.randn(16)
    for given in (bias, None):
        exact = F.linear(x.double(), weight.double(), None if given is None else given.double())
        assert torch.allclose(linear(x, weight, given).double(), exact, atol=1e-5)


def test_products_of_pairs_are_those_of_double_precision() -> None:
    left, right = torch.randn(3, 20, 8), torch.randn(3, 8, 12).mT
    assert torch.allclose(products(left, right).double(), left.double() @ right.double().mT, atol=1e-5)


@pytest.mark.parametrize(("length", "keys", "width"), [(50, 50, 16), (30, 77, 40), (300, 1100, 24), (9, 1024, 64)])
def test_attention_is_that_of_double_precision(length, keys, width) -> None:
    shape = {"query": length, "key": keys, "value": keys}
    states = {name: torch.randn(2, 3, count, width) for name, count in shape.items()}
    exact = F.scaled_dot_product_attention(*(value.double() for value in states.values()))
    assert (attend(*states.values()).double() - exact).abs().max() <= 1e-5


def test_attention_with_scores_beyond_all_powers_is_that_of_double_precision() -> None:
    query, key, value = (torch.randn(1, 1, count, 24) for count in (8, 1100, 1100))
    exact = F.scaled_dot_product_attention(50 * query.double(), 50 * key.double(), value.double())
    assert (attend(50 * query, 50 * key, value).double() - exact).abs().max() <= 1e-3


def test_gradients_reach_the_input_and_the_weights() -> None:
    layer, x = nn.Linear(8, 4), torch.randn(3, 8, requires_grad=True)
    with fast(layer):
        layer(x).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, layer.weight.sum(0).expand(3, 8))
    assert layer.weight.grad is not None


def test_other_precisions_go_the_plain_way(monkeypatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(module, "_has_onednn", lambda: asked.append(1) or True)
    x, weight = torch.randn(8, 4).double(), torch.randn(5, 4).double()
    assert torch.equal(linear(x, weight), x @ weight.mT)
    assert not asked


def test_autocast_chooses_the_precision() -> None:
    x, weight = torch.randn(8, 4), torch.randn(5, 4)
    with torch.autocast("cpu", torch.bfloat16):
        for given in (weight, weight.bfloat16()):
            assert torch.equal(linear(x, given), F.linear(x, given))
        assert linear(x, weight).dtype == torch.bfloat16
