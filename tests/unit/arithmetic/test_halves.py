"""What is the same in both branches of guidance is computed once."""

import pytest
import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from tests.conftest import randomise, text_for, tiny_base

from maquette.arithmetic.fast import fast
from maquette.arithmetic.halves import once, twice
from maquette.controlnet.network import ControlNet


def test_halves_that_are_equal_are_computed_once() -> None:
    rows: list[int] = []

    def plain(x: torch.Tensor, time: torch.Tensor | None) -> torch.Tensor:
        rows.append(len(x))
        return 2 * x if time is None else 2 * x + time.sum()

    x, time = torch.arange(6.0).view(2, 3), torch.ones(2, 1)
    for given in ((x, None), (x[:1], None), (x.repeat(2, 1), None), (x.repeat(2, 1), torch.arange(4.0).view(4, 1))):
        assert torch.equal(once(plain, *given), plain(*given))
    assert rows == [2, 2, 1, 1, 2, 4, 4, 4]  # by `once` and by itself, in turn
    assert twice(x.repeat(2, 1), time)
    assert not twice(x.repeat(2, 1), torch.arange(2.0).view(2, 1))
    assert not twice(torch.full((2, 1), torch.nan))


@pytest.mark.parametrize("images", [1, 2])
@torch.no_grad()
def test_until_the_text_comes_in_a_step_computes_one_branch_of_guidance(images) -> None:
    base = tiny_base("sd15")
    unet, net = base.backbone.network, randomise(ControlNet.attach(base)).eval()
    x, text = torch.randn(images, 4, 8, 8).repeat(2, 1, 1, 1), text_for(base.backbone, 2 * images)
    features = net.encode(torch.rand(1, 3, 64, 64))
    parts = [
        part
        for network in (unet, net)
        for name, part in network.named_modules()
        if isinstance(part, ResnetBlock2D) or (isinstance(part, Attention) and name.endswith("attn1"))
    ]
    inner = [part.conv1 if isinstance(part, ResnetBlock2D) else part.to_q for part in parts]
    rows: dict[int, int] = {}
    for part in inner:
        part.register_forward_hook(lambda layer, given, _: rows.update({id(layer): len(given[0])}))
    expected = base.predict(x, 500, text, net(x, 500, text, features))
    assert set(rows.values()) == {2 * images}
    with fast(unet, net):
        found = base.predict(x, 500, text, net(x, 500, text, features))
    assert sorted(rows.values()) == [images] * 4 + [2 * images] * (len(inner) - 4)  # one of each kind in both networks
    assert (found - expected).abs().max() <= 1e-4 * expected.std()
