"""Added channels in place of a ControlNet: a whole network that starts as the base, with the map beside the latents."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from tests.conftest import text_for, tiny_base
from tests.tiny_sd3 import MEDIUM, tiny_sd3
from tests.toy_backbone import toy_base

import maquette as mq
from maquette.backbones.unet import UNetBackbone
from maquette.checkpoints.convert import convert
from maquette.checkpoints.info import info
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError, MaquetteWarning

CONDITION = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(3))


def attached(backbone: UNetBackbone, effect: float = 0.0) -> ControlNet:
    net = ControlNet.attach(SimpleNamespace(backbone=backbone), variant="channels")
    with torch.no_grad():
        net.condition_encoder.conv_out.weight.normal_(std=effect, generator=torch.Generator().manual_seed(1))
        for parameter in net.trainable_copy.parameters():
            parameter.mul_(1 + effect)
    return net


def predicted(backbone, net, z, text) -> torch.Tensor:
    return backbone.finish(backbone.prepare(z, 500, text), net(z, 500, text, net.encode(CONDITION)))


@torch.no_grad()
def test_it_starts_as_the_base(backbone: UNetBackbone, latents) -> None:
    """Locked, as for use: PyTorch multiplies by weights that train in another shape, which may round differently."""
    z, text = latents(backbone), text_for(backbone)
    plain = backbone.finish(backbone.prepare(z, 500, text))
    assert torch.equal(predicted(backbone, attached(backbone).requires_grad_(False), z, text), plain)
    assert not torch.allclose(predicted(backbone, attached(backbone, 0.1), z, text), plain, atol=1e-3)


def test_all_of_it_trains_and_the_base_stays_locked(backbone: UNetBackbone, latents) -> None:
    net = attached(backbone, 0.1)
    predicted(backbone, net, latents(backbone), text_for(backbone)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert all(parameter.grad is None for parameter in backbone.unet.parameters())


@torch.no_grad()
def test_diffusers_loads_it_as_a_wider_unet(backbone: UNetBackbone, latents, tmp_path) -> None:
    net, z, text = attached(backbone, 0.1), latents(backbone), text_for(backbone)
    net.save(tmp_path)
    wide = UNet2DConditionModel.from_pretrained(tmp_path)
    assert wide.config.in_channels == backbone.latent_channels + 3
    cells = torch.nn.functional.avg_pool2d(CONDITION, 8)
    more = {"text_embeds": text.pooled, "time_ids": text.time_ids}
    theirs = wide(torch.cat([z, cells], dim=1), 500, text.hidden_states, added_cond_kwargs=more).sample
    assert torch.allclose(theirs, predicted(backbone, net, z, text), atol=1e-5)


@pytest.fixture(scope="module")
def base() -> mq.Base:
    return tiny_base("diorama", "v_prediction")


def test_it_is_saved_and_loaded(base, tmp_path) -> None:
    net = attached(base.backbone, 0.1)
    net.save(tmp_path)
    loaded = mq.load_controlnet(tmp_path, base)
    assert loaded.config.variant == "channels"
    for name, value in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_weight_and_mask_lie_between_the_base_and_it(base) -> None:
    """Against the arithmetic by hand, in the branch without a prompt too."""
    backbone, net = base.backbone, attached(base.backbone, 0.1)
    z, text = torch.randn(2, 8, 16, 16), text_for(base.backbone)
    mask = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        plain, own = base.predict(z, 500, text), predicted(backbone, net, z, text)
        residuals = net(z, 500, text, net.encode(CONDITION))
        blended = base.predict(z, 500, text, residuals.scaled(0.3).masked([mask] * len(residuals)))
        last = base.predict(z, 500, text, net(z[1:], 500, text[1:], net.encode(CONDITION[1:])).pad_front(1))
    assert torch.allclose(blended, plain + 0.3 * mask * (own - plain), atol=1e-5)
    assert torch.allclose(last, torch.cat([plain[:1], own[1:]]), atol=1e-5)


def test_it_generates_and_is_a_control_like_any(base) -> None:
    plain = mq.generate(base, "a", steps=2, seed=1, record=False)[0]
    images = [
        mq.generate(base, "a", [mq.Control(net.requires_grad_(False), CONDITION[:1])], steps=2, seed=1)[0]
        for net in (attached(base.backbone), attached(base.backbone, 0.1))
    ]
    assert images[0].tobytes() == plain.tobytes()
    assert images[1].tobytes() != plain.tobytes()


@pytest.fixture(scope="module", params=[{}, MEDIUM], ids=["3", "3.5"])
def transformer(request) -> mq.Base:
    return tiny_sd3(t5=False, blocks=3, **request.param)


def of_transformer(base: mq.Base, net: ControlNet, z: torch.Tensor) -> torch.Tensor:
    text, features = base.encode_text(["a", ""]), net.encode(net.condition_input(CONDITION, base.encode_maps))
    return base.predict(z, 500, text, net(z, 500, text, features))


@torch.no_grad()
def test_a_transformer_with_added_channels_starts_as_its_base(transformer) -> None:
    z = torch.randn(2, 4, 16, 16)
    plain = transformer.predict(z, 500, transformer.encode_text(["a", ""]))
    assert torch.equal(of_transformer(transformer, attached(transformer.backbone).requires_grad_(False), z), plain)
    assert not torch.allclose(of_transformer(transformer, attached(transformer.backbone, 0.1), z), plain, atol=1e-3)


def test_all_of_a_transformer_trains_and_its_base_stays_locked(transformer) -> None:
    net = attached(transformer.backbone, 0.1)
    of_transformer(transformer, net, torch.randn(2, 4, 16, 16)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert all(parameter.grad is None for parameter in transformer.backbone.network.parameters())


@torch.no_grad()
def test_diffusers_loads_it_as_a_wider_transformer_of_both_latents(transformer, tmp_path) -> None:
    net, z, text = attached(transformer.backbone, 0.1), torch.randn(2, 4, 16, 16), transformer.encode_text(["a", ""])
    net.save(tmp_path)
    wide, said = SD3Transformer2DModel.from_pretrained(tmp_path, output_loading_info=True)
    assert wide.config.in_channels == 8 and not said["missing_keys"] and not said["unexpected_keys"]
    both = torch.cat([z, transformer.encode_maps(CONDITION)], dim=1)
    theirs = wide(both, text.hidden_states, text.pooled, torch.tensor([500, 500])).sample
    assert torch.allclose(theirs, of_transformer(transformer, net, z), atol=1e-5)
    loaded = mq.load_controlnet(tmp_path, transformer)
    assert torch.equal(of_transformer(transformer, loaded, z), of_transformer(transformer, net, z))
    assert "added channels, a whole network" in info(tmp_path)


def test_what_does_not_go_is_said(base) -> None:
    control = mq.Control(attached(base.backbone, 0.1), CONDITION[:1])
    with pytest.raises(MaquetteError, match="has one weight"):
        mq.generate(base, "a", [control], steps=1, condition_in="weighted")
    with pytest.warns(MaquetteWarning, match="added channels have no residuals"):
        ControlNet.attach(base, variant="channels", connect="middle")
    with pytest.warns(MaquetteWarning, match="the whole base is copied"):
        ControlNet.attach(tiny_sd3(), variant="channels", blocks=2)
    with pytest.raises(MaquetteError, match="is for U-Nets and Stable Diffusion 3, and this base"):
        ControlNet.attach(toy_base(), variant="channels")
    with pytest.raises(MaquetteError, match="connect is of ControlNets"):
        mq.TrainingConfig(condition="canny", output="runs/x", variant="channels", connect="middle")


def test_it_is_told_and_not_moved(base, tmp_path) -> None:
    attached(base.backbone).save(tmp_path)
    assert "added channels, a whole network" in info(tmp_path)
    with pytest.raises(MaquetteError, match="other programs have no format"):
        convert(tmp_path, tmp_path / "other.safetensors", "original")
