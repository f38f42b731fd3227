"""PITI and LDM: what their encoders give, PITI's first stage, and its guidance; the plain loop against `generate`."""

import pytest
import torch
import torch.nn.functional as F
from tests.unit.baselines.conftest import tiny

import maquette as mq
from maquette.baselines.diffusion import sample
from maquette.baselines.ldm import Rescaler
from maquette.baselines.piti import ConditionEncoder, normalised
from maquette.baselines.protocol import Budget


def test_pitis_encoder_gives_tokens_of_the_text_s_width() -> None:
    encoder = ConditionEncoder(128, 1, 1, 24).eval()
    maps = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    tokens = encoder(maps)
    assert tokens.shape == (2, 64, 24)
    assert torch.allclose(encoder(maps[1:]), tokens[1:], atol=1e-5)


def test_pitis_first_stage_leaves_the_base_s_weights_alone(base, scenes, tmp_path) -> None:
    """Its copy is the base's to the bit after it, and is not after the second."""
    names = base.backbone.unet.state_dict()
    first = tiny("piti", base, locked=1.0)
    first.train(scenes["segmentation"], Budget(steps=2, batch_size=2), tmp_path / "first")
    copy = first.networks["unet"].state_dict()
    assert copy.keys() == names.keys()
    assert all(torch.equal(copy[name], names[name]) for name in names)
    fresh = tiny("piti", base).networks["encoder"].state_dict()
    learnt = first.networks["encoder"].state_dict()
    assert all(not torch.equal(fresh[name], learnt[name]) for name in fresh if not name.endswith("in_proj_bias"))
    both = tiny("piti", base, locked=0.5)
    both.train(scenes["segmentation"], Budget(steps=2, batch_size=2), tmp_path / "both")
    copy = both.networks["unet"].state_dict()
    assert sum(not torch.equal(copy[name], names[name]) for name in names) > len(names) / 2


def test_normalised_guidance_keeps_mean_and_deviation() -> None:
    source = torch.Generator().manual_seed(2)
    dropped, conditional = (torch.randn(3, 8, 16, 16, generator=source) + shift for shift in (0.3, -0.2))
    guided = normalised(dropped, conditional, 5.0)
    for row in range(3):
        assert guided[row].mean().item() == pytest.approx(conditional[row].mean().item(), abs=1e-5)
        assert guided[row].std().item() == pytest.approx(conditional[row].std().item(), rel=1e-5)
        plain = dropped[row] + 5.0 * (conditional[row] - dropped[row])
        assert torch.corrcoef(torch.stack([guided[row].flatten(), plain.flatten()]))[0, 1] > 0.9999
    assert torch.allclose(normalised(dropped, conditional, 1.0), conditional, atol=1e-6)


def test_the_rescaler_averages_cells_and_mixes_classes() -> None:
    """Three halvings are the means of 8 × 8 pixels; the convolution is a matrix on the classes."""
    rescaler = Rescaler(10, 3, 8)
    numbers = torch.randint(10, (2, 128, 128), generator=torch.Generator().manual_seed(1))
    classes = F.one_hot(numbers, 10).permute(0, 3, 1, 2).float()
    found = rescaler(classes)
    assert found.shape == (2, 3, 16, 16)
    shares = classes.view(2, 10, 16, 8, 16, 8).mean(dim=(3, 5))
    expected = torch.einsum("ck,bkhw->bchw", rescaler.mapper.weight[:, :, 0, 0], shares)
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_plain_loop_is_that_of_generate(base) -> None:
    """With the base's own prediction and without guidance, up to rounding: `generate` computes in the fast way."""
    prompts = ["a red house", "a tree"]
    text = base.encode_text(prompts)
    found = sample(base, [3, 4], lambda x, times: base.predict(x, times, text))
    expected = mq.generate(base, prompts, seed=3, guidance=1.0, batch_size=2, returns="latents")
    assert torch.allclose(found, expected, atol=1e-4)
