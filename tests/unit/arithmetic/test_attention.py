"""Both ways of attention agree, and a text is projected once, until it changes."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from maquette.arithmetic import attention
from maquette.arithmetic.attention import OnceForText, attend


@pytest.fixture(autouse=True)
def _no_tiles(monkeypatch) -> None:
    """The other way is PyTorch's own."""
    monkeypatch.setattr(attention, "has_tiles", lambda: False)


@torch.no_grad()
def test_where_the_processor_has_tiles_the_fused_kernel_attends(monkeypatch) -> None:
    q, k, v = (torch.randn(2, 3, 64, 40).bfloat16() for _ in range(3))
    fused, in_blocks = F.scaled_dot_product_attention(q, k, v), attend(q, k, v)
    monkeypatch.setattr(attention, "has_tiles", lambda: True)
    assert torch.equal(attend(q, k, v), fused)
    assert not torch.equal(in_blocks, fused)


@pytest.mark.parametrize(("queries", "keys", "width"), [(64, 64, 40), (64, 77, 40), (50, 77, 160)])
@pytest.mark.parametrize("block", [1, 1000, 20000, 2**30])
@torch.no_grad()
def test_every_way_agrees_with_the_definition(queries, keys, width, block, monkeypatch) -> None:
    monkeypatch.setattr(attention, "BLOCK", block)
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, count, width).bfloat16() for count in (queries, keys, keys))
    exact = torch.softmax(q.double() @ k.double().mT / width**0.5, dim=-1) @ v.double()
    assert torch.allclose(attend(q.float(), k.float(), v.float()).double(), exact, atol=1e-5)
    found, plain = attend(q, k, v), ((q @ k.mT) * width**-0.5).softmax(dim=-1) @ v
    assert found.dtype == torch.bfloat16
    assert (found.double() - exact).std() <= (plain.double() - exact).std()  # diffusers' attention without the kernel
    assert (found.double() - exact).std() < 0.006 * exact.std()


@pytest.mark.parametrize("width", [8, 40, 50])
@pytest.mark.parametrize("block", [1000, 2**30])
@torch.no_grad()
def test_powers_of_two_agree_with_the_definition(width, block, monkeypatch) -> None:
    monkeypatch.setattr(attention, "BLOCK", block)
    monkeypatch.setattr(attention, "LONG", 1)
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 64, width).bfloat16() for _ in range(3))
    exact = torch.softmax(q.double() @ k.double().mT / width**0.5, dim=-1) @ v.double()
    assert attention._suit_powers(q.flatten(0, 1), k.flatten(0, 1))
    assert (attend(q, k, v).double() - exact).std() < 0.007 * exact.std()


@pytest.mark.parametrize("size", [0.0, 1.0, 2.5, 30.0, 1e18])
@torch.no_grad()
def test_scores_of_any_size_neither_overflow_nor_vanish(size, monkeypatch) -> None:
    monkeypatch.setattr(attention, "LONG", 1)
    torch.manual_seed(0)
    q, k, v = ((size * torch.randn(1, 1, 64, 40)).bfloat16() for _ in range(3))
    scores = q.double() @ k.double().mT / 40**0.5
    exact = torch.softmax(scores.bfloat16().double(), dim=-1) @ v.double()  # which are rounded in either way
    found = attend(q, k, v).double()
    assert found.isfinite().all()
    assert (found - exact).std() <= 0.02 * exact.std()


@pytest.fixture
def module() -> Attention:
    torch.manual_seed(0)
    return Attention(32, cross_attention_dim=24, heads=4, dim_head=8).eval().requires_grad_(False)


def counted(layer) -> list[int]:
    calls: list[int] = []
    layer.register_forward_hook(lambda *_: calls.append(1))
    return calls


@torch.no_grad()
def test_equals_diffusers_processor_in_every_step_and_projects_a_text_once(module) -> None:
    text, other = torch.randn(2, 7, 24), torch.randn(2, 7, 24)
    plain = AttnProcessor2_0()
    calls = counted(module.to_k)
    once = OnceForText()
    for number, given in enumerate((text, text, text[:], other, other, text)):
        x = torch.randn(2, 16, 32)
        before = len(calls)
        found = once(module, x, given)
        assert len(calls) - before == (number in (0, 3, 5))
        assert torch.allclose(found, plain(module, x, given), atol=1e-6)


@torch.no_grad()
def test_a_text_that_was_written_to_or_cut_is_another_one(module) -> None:
    text, x, once, plain = torch.randn(2, 7, 24), torch.randn(2, 16, 32), OnceForText(), AttnProcessor2_0()
    once(module, x, text)
    text.mul_(2)
    assert torch.allclose(once(module, x, text), plain(module, x, text), atol=1e-6)
    assert torch.allclose(once(module, x, text[:, :3]), plain(module, x, text[:, :3]), atol=1e-6)
    assert torch.allclose(once(module, x[1:], text[1:]), plain(module, x[1:], text[1:]), atol=1e-6)


@torch.no_grad()
def test_the_attention_of_an_autoencoder_is_the_same() -> None:
    torch.manual_seed(0)
    module = Attention(
        32, heads=1, dim_head=32, norm_num_groups=8, residual_connection=True, rescale_output_factor=2, bias=True
    )
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 32, 4, 6).to(memory_format=layout)
        assert torch.allclose(OnceForText()(module, x), AttnProcessor2_0()(module, x), atol=1e-6)


@torch.no_grad()
def test_what_stable_diffusion_has_not_is_left_to_diffusers(module) -> None:
    x, text = torch.randn(2, 16, 32), torch.randn(2, 7, 24)
    mask = torch.zeros(2, 1, 7).masked_fill(torch.arange(7) > 3, -1e4)
    found = OnceForText()(module, x, text, attention_mask=mask)
    assert torch.equal(found, AttnProcessor2_0()(module, x, text, attention_mask=mask))
    assert not torch.allclose(found, OnceForText()(module, x, text), atol=1e-3)
