"""Whole networks compute the same in `fast`, and are as before when it ends."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from diffusers.models.upsampling import Upsample2D
from tests.conftest import FAMILIES, randomise, text_for, tiny_base, tiny_unet

from maquette.arithmetic import fast as module
from maquette.arithmetic.fast import fast
from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.sampling.generate import generate


def marks(network: torch.nn.Module) -> list[object]:
    """All that `fast` changes in a network."""
    return [
        (dict(part._forward_pre_hooks), part.__dict__.get("forward"), getattr(part, "processor", None))
        for part in network.modules()
    ]


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_step_is_the_same(family, latents, monkeypatch) -> None:
    for name in ("CELLS", "TILED_CELLS", "TILED_CHANNELS"):
        monkeypatch.setattr(module, name, 0)
    base = tiny_base(family)
    backbone, net = base.backbone, randomise(ControlNet.attach(base)).eval()
    x, text, features = latents(backbone), text_for(backbone), net.encode(torch.rand(1, 3, 128, 128))

    def step(time: int) -> torch.Tensor:
        return base.predict(x, time, text, net(x, time, text, features))

    expected, before = [step(time) for time in (900, 300)], [marks(backbone.network), marks(net)]
    with fast(backbone.network, net):
        found = [step(time) for time in (900, 300)]
        assert marks(backbone.network) != before[0]
    assert [marks(backbone.network), marks(net)] == before
    for value, plain in zip(found, expected, strict=True):
        assert (value - plain).abs().max() <= 1e-4 * plain.std()
        assert plain.std() > 0.01  # so that this can fail


@torch.no_grad()
def test_an_autoencoder_is_the_same(monkeypatch) -> None:
    for name in ("CELLS", "TILED_CELLS", "TILED_CHANNELS"):
        monkeypatch.setattr(module, name, 0)
    vae = tiny_base("sd15").autoencoder
    z, pixels = torch.randn(2, 4, 8, 6), torch.rand(2, 3, 64, 48)
    plain = vae.decode(z).sample, vae.encode(pixels).latent_dist.mean
    with fast(vae):
        found = vae.decode(z).sample, vae.encode(pixels).latent_dist.mean
    for value, expected in zip(found, plain, strict=True):
        assert (value - expected).abs().max() <= 1e-4 * expected.std()


@pytest.mark.parametrize("has_tiles", [False, True])
@torch.no_grad()
def test_products_are_left_out_in_bfloat16_unless_they_cost_little(has_tiles, monkeypatch) -> None:
    for name in ("CELLS", "TILED_CELLS", "TILED_CHANNELS"):
        monkeypatch.setattr(module, name, 0)
    monkeypatch.setattr(module, "has_tiles", lambda: has_tiles)
    conv = torch.nn.Conv2d(16, 16, 3, padding=1).bfloat16()
    x = torch.randn(1, 16, 8, 8).bfloat16()
    plain = conv(x.contiguous(memory_format=torch.channels_last))
    with fast(conv):
        found = conv(x)
    assert torch.equal(found, plain) is has_tiles
    assert (found - plain).std() < 0.02 * plain.std()


def test_gradients_to_latents_are_the_same(monkeypatch) -> None:
    for name in ("CELLS", "TILED_CELLS", "TILED_CHANNELS"):
        monkeypatch.setattr(module, name, 0)
    vae, z, found = tiny_base("sd15").autoencoder, torch.randn(2, 4, 8, 6), []
    for changed in ((), (vae,)):
        x = z.clone().requires_grad_()
        with fast(*changed):
            vae.decode(x).sample.square().sum().backward()
        assert x.grad is not None
        found.append(x.grad)
    assert found[0].std() > 0
    assert (found[1] - found[0]).abs().max() <= 1e-4 * found[0].std()


def test_nested_and_interrupted_it_leaves_no_trace() -> None:
    unet = tiny_unet("sd15")
    before = marks(unet)
    with fast(unet), fast(unet):
        pass
    assert marks(unet) == before
    with pytest.raises(KeyError), fast(unet):
        raise KeyError
    assert marks(unet) == before


def test_a_processor_that_was_set_by_hand_stays() -> None:
    unet, own = tiny_unet("sd15"), AttnProcessor()
    unet.set_attn_processor(own)
    with fast(unet):
        assert all(part.processor is own for part in unet.modules() if isinstance(part, Attention))


@torch.no_grad()
def test_sizes_that_are_not_doubled_go_the_plain_way(monkeypatch) -> None:
    monkeypatch.setattr(module, "CELLS", 0)
    torch.manual_seed(0)
    layer, x = Upsample2D(8, use_conv=True, out_channels=8), torch.randn(1, 8, 5, 5)
    expected = {size: layer(x, size) for size in (None, (9, 9), (10, 10))}
    with fast(layer):
        for size, value in expected.items():
            assert torch.allclose(layer(x, size), value, atol=1e-5)


def test_a_generation_projects_each_text_once_in_base_and_controlnet(monkeypatch) -> None:
    base = tiny_base("sd15")
    net = randomise(ControlNet.attach(base)).eval().requires_grad_(False)
    attentions = [
        part
        for network in (base.backbone.network, net)
        for name, part in network.named_modules()
        if name.endswith("attn2")
    ]
    calls: list[object] = []
    for part in attentions:
        part.to_k.register_forward_hook(lambda layer, *_: calls.append(layer))
    control = Control(net, torch.rand(1, 3, 64, 64))
    generate(base, "a", [control], steps=5, guidance=3.0, size=(64, 64), returns="latents")
    assert len(attentions) > 10
    assert len(calls) == len(attentions) == len(set(calls))
    generate(base, "b", [control], steps=2, guidance=3.0, size=(64, 64), returns="latents")
    assert len(calls) == 2 * len(attentions)  # nothing is kept for the next generation


@pytest.mark.parametrize("family", FAMILIES)
def test_a_generation_is_the_same_with_and_without(family, monkeypatch) -> None:
    base = tiny_base(family)
    net = randomise(ControlNet.attach(base)).eval().requires_grad_(False)
    settings = {"steps": 3, "guidance": 3.0, "size": (64, 64), "returns": "latents", "count": 2}
    found = generate(base, "a", [Control(net, torch.rand(1, 3, 64, 64, generator=torch.manual_seed(0)))], **settings)
    monkeypatch.setattr("maquette.base.fast", lambda *_: torch.no_grad())
    plain = generate(base, "a", [Control(net, torch.rand(1, 3, 64, 64, generator=torch.manual_seed(0)))], **settings)
    assert (found - plain).abs().max() <= 1e-4 * plain.std()


def test_two_threads_in_one_network_do_not_disturb_each_other() -> None:
    base, prompts = tiny_base("sd15"), ["a", "a b c"]
    before = marks(base.backbone.network)

    def latents(prompt: str) -> torch.Tensor:
        return generate(base, prompt, steps=4, size=(64, 64), returns="latents")

    alone = [latents(prompt) for prompt in prompts]
    with ThreadPoolExecutor(4) as threads:
        for number, together in enumerate(threads.map(latents, prompts * 4)):
            assert torch.equal(together, alone[number % 2])
    assert marks(base.backbone.network) == before
