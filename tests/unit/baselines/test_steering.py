"""Sketch-guided diffusion: β = 0 is the base, the gradient goes downhill, a step's length is β of the sampler's."""

import pytest
import torch
from tests.unit.baselines.conftest import tiny

import maquette as mq
from maquette.baselines.sketch import features
from maquette.baselines.steering import Steered


@pytest.fixture(scope="module")
def asked(base, scenes):
    """Text, edges' latents and noisy latents of two pictures."""
    pairs = scenes["canny"]
    maps = [pairs.standard(row) for row in range(2)]
    text = base.encode_text([pairs.text(row) for row in range(2)])
    x = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(3))
    return text, base.encode_images(maps), x, maps


@pytest.fixture(scope="module")
def predictor(base):
    """A random network with statistics of its own in its norms, so that it is no constant."""
    method = tiny("sketch-guided", base)
    torch.manual_seed(11)
    for module in method.networks.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.05, 0.2)
    return method


def test_without_strength_it_is_the_base_bit_for_bit(base, predictor, asked) -> None:
    weak = tiny("sketch-guided", base, strength=0.0)
    weak.networks.load_state_dict(predictor.networks.state_dict())
    prompts = ["a red house", "a tree"]
    expected = mq.generate(base, prompts, seed=7, batch_size=2, record=False)
    assert [one.tobytes() for one in weak.pictures(prompts, asked[3], [7, 8])] == [one.tobytes() for one in expected]
    assert predictor.pictures(prompts, asked[3], [7, 8])[0].tobytes() != expected[0].tobytes()


def test_a_step_against_the_gradient_decreases_the_error(base, predictor, asked) -> None:
    text, edges, x, _ = asked
    time = torch.tensor(500)
    sampler = Steered(base.noise.sampler("ddim", 4, 64), lambda y, at: predictor.error(y, at, text, edges), 1.6, 1.0)
    gradient = sampler._gradient(x, time)
    with torch.no_grad():
        before = predictor.error(x, time, text, edges)
        nearer = x - 1e-2 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        after = predictor.error(nearer, time, text, edges)
        slope = (before - after) / 1e-2
    assert (after < before).all()
    assert torch.allclose(slope, gradient.flatten(1).norm(dim=1), rtol=0.05)


def test_a_step_is_as_long_as_said_and_only_the_first_are_steered() -> None:
    """On a bowl around a point, against the closed form: β of the sampler's step, straight towards the point."""

    class Halving:
        times, steps, order = torch.tensor([3.0, 2.0, 1.0, 0.0]), 4, 1

        def step(self, prediction, time, x, generators=None):
            return x / 2

    centre, x = torch.full((2, 1, 1, 2), 5.0), torch.tensor([[3.0, 4.0], [0.0, 2.0]]).view(2, 1, 1, 2)
    sampler = Steered(Halving(), lambda y, time: (y - centre).square().sum(dim=(1, 2, 3)), 1.6, 0.5)
    for run in range(4):
        following = sampler.step(torch.zeros_like(x), sampler.times[run], x)
        towards = (centre - x) / (centre - x).flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        length = 1.6 * (x / 2).flatten(1).norm(dim=1).view(-1, 1, 1, 1) * (run < 2)
        assert torch.allclose(following, x / 2 + length * towards)
        x = following


def test_features_are_of_nine_layers_of_the_unchanged_base(base, asked) -> None:
    """The prediction that the same pass ends in is the base's, and no hook stays."""
    text, _, x, _ = asked
    seen = features(base, x, torch.tensor([500, 500]), text)
    assert seen.shape == (2, 2 * (24 + 32 + 32 + 16) + 16, 16, 16)
    assert not any(module._forward_hooks for module in base.backbone.unet.modules())
    unet = base.backbone.unet
    caught = []
    handle = unet.up_blocks[-1].register_forward_hook(lambda *found: caught.append(found[2]))
    base.predict(x, torch.tensor([500, 500]), text)
    handle.remove()
    assert torch.allclose(seen[:, -24:], caught[0], atol=1e-5)
