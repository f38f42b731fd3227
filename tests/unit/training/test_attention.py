import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from maquette.training import hardware
from maquette.training.hardware import FasterOfTwo, faster_attention


@pytest.mark.parametrize("few", [0, 2**19])
def test_plain_and_fused_attention_agree(few: int, monkeypatch) -> None:
    monkeypatch.setattr(hardware, "FEW", few)
    torch.manual_seed(0)
    module = Attention(32, cross_attention_dim=16, heads=4, dim_head=8)
    x, text = torch.randn(2, 20, 32), torch.randn(2, 7, 16)
    module.set_processor(AttnProcessor2_0())
    expected = module(x, encoder_hidden_states=text)
    with faster_attention(torch.device("cpu"), module):
        assert isinstance(module.processor, FasterOfTwo)
        found = module(x, encoder_hidden_states=text)
    assert torch.allclose(expected, found, atol=1e-5)
    assert isinstance(module.processor, AttnProcessor2_0)  # restored


def test_few_scores_use_plain_attention_and_many_the_fused_kernel(monkeypatch) -> None:
    used = []
    processor = FasterOfTwo()
    monkeypatch.setattr(processor, "plain", lambda module, x, text: used.append("plain") or x)
    monkeypatch.setattr(processor, "fused", lambda module, x, text: used.append("fused") or x)
    module = Attention(8, heads=1, dim_head=8)
    for tokens in (16, 1024):
        processor(module, torch.zeros(1, tokens, 8))
    assert used == ["plain", "fused"]
