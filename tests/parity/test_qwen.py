"""Qwen-Image equals diffusers', forward and backward, in both topologies that published ControlNets have."""

import pytest
import torch
from diffusers import QwenImageControlNetModel, QwenImageTransformer2DModel
from tests.compared import assert_same_gradients, assert_saved_alike
from tests.tiny_qwen import published, tiny_transformer
from tests.tiny_sd3 import WIDTH

from maquette.backbones.transformers.packing import pack
from maquette.backbones.transformers.qwen import QwenBackbone
from maquette.checkpoints.controlnets import read_controlnet
from maquette.controlnet.network import ControlNet, ControlNetConfig
from maquette.text.conditioning import Conditioning

T = torch.tensor([875.0, 12.5])


def inputs(side: tuple[int, int] = (12, 8), masked: bool = True) -> tuple[torch.Tensor, Conditioning]:
    """Latents and text, of which the first row is shorter."""
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(2, 4, *side, generator=generator)
    rows = [torch.randn(length, WIDTH, generator=generator) for length in ((5, 9) if masked else (9, 9))]
    text = Conditioning.stack([Conditioning(row) for row in rows])
    assert (text.mask is not None) == masked
    return z, text


def given(z: torch.Tensor, text: Conditioning) -> dict:
    return {
        "encoder_hidden_states": text.hidden_states, "encoder_hidden_states_mask": text.mask, "timestep": T / 1000,
        "img_shapes": [(1, z.shape[2] // 2, z.shape[3] // 2)] * 2, "return_dict": False,
    }  # fmt: skip


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("side", [(12, 8), (2, 24), (6, 10)])
@torch.no_grad()
def test_halves_make_the_whole(side, masked) -> None:
    network = tiny_transformer()
    backbone, (z, text) = QwenBackbone(network), inputs(side, masked)
    (theirs,) = network(pack(z), **given(z, text))
    assert theirs.std() > 0.1
    ours = backbone.finish(backbone.prepare(z, T, text))
    assert (pack(ours) - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@torch.no_grad()
def test_padding_behind_a_text_changes_nothing() -> None:
    backbone, (z, text) = QwenBackbone(tiny_transformer()), inputs()
    both = backbone.finish(backbone.prepare(z, T, text))
    alone = backbone.finish(backbone.prepare(z[:1], T[:1], text[:1]))
    assert text[:1].mask is None
    assert text[:1].hidden_states.shape[1] == 5
    assert torch.allclose(both[:1], alone, atol=1e-5)
    assert not torch.allclose(both[1:], backbone.finish(backbone.prepare(z[1:], T[1:], text[:1])), atol=1e-2)


FORMS = {"5": {"blocks": 5}, "dividing": {"blocks": 4}, "painting": {"blocks": 2, "extra_condition_channels": 4}}
BASE = 8  # blocks, a multiple of some of the numbers above


def theirs_and_ours(form, tmp_path):
    network = tiny_transformer(BASE)
    theirs = published(network, **FORMS[form])
    theirs.save_pretrained(tmp_path)
    backbone = QwenBackbone(network)
    return backbone, theirs, read_controlnet(tmp_path, backbone).requires_grad_(True)


@pytest.mark.parametrize("form", FORMS)
def test_residuals_prediction_and_gradients(form, tmp_path) -> None:
    """Of a net that diffusers wrote: residuals, the base's prediction with them, and every gradient of the net."""
    backbone, theirs, net = theirs_and_ours(form, tmp_path)
    z, text = inputs()
    channels = 4 + (net.control.paints == "only")
    latents = torch.randn(2, channels, *z.shape[2:], generator=torch.Generator().manual_seed(9))
    samples = theirs(pack(z), pack(latents), **given(z, text))
    (predicted,) = backbone.network(pack(z), controlnet_block_samples=samples, **given(z, text))
    predicted.square().mean().backward()

    residuals = net(z, T, text, net.encode(latents))
    ours = backbone.finish(backbone.prepare(z, T, text), residuals)
    ours.square().mean().backward()
    every = -(-BASE // len(samples))
    for number in range(BASE):
        expected = samples[number // every]
        assert expected.std() > 0.1
        assert (residuals[number].flatten(2).mT - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (pack(ours) - predicted).abs().max() <= 1e-5 * predicted.abs().max()
    assert_same_gradients(net, theirs)


@pytest.mark.parametrize("form", FORMS)
def test_saved_it_is_the_file_that_diffusers_wrote(form, tmp_path) -> None:
    _, theirs, net = theirs_and_ours(form, tmp_path / "theirs")
    assert_saved_alike(net, theirs, tmp_path / "ours")


def test_an_output_that_no_block_gets_is_not_computed(tmp_path) -> None:
    """Of seven on 16 blocks each of six goes to three or one of them: the seventh block is not run."""
    network, ran = tiny_transformer(16), []
    backbone = QwenBackbone(network)
    published(network, 7).save_pretrained(tmp_path)
    net = read_controlnet(tmp_path, backbone)
    for number, block in enumerate(net.trainable_copy.transformer_blocks):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    z, text = inputs()
    with torch.no_grad():
        residuals = net(z, T, text, net.encode(z))
    assert ran == [0, 1, 2, 3, 4, 5]
    assert len({id(residual) for residual in residuals}) == 6


def test_guidance_keeps_the_length_of_each_token() -> None:
    generator = torch.Generator().manual_seed(0)
    negative, positive = torch.randn(2, 2, 4, 6, 4, generator=generator)
    guided = QwenBackbone.guide(negative, positive, 4.0)
    for row in range(3):
        for column in range(2):
            ours, theirs, plain = (
                one[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten(1)
                for one in (guided, positive, negative + 4 * (positive - negative))
            )
            assert torch.allclose(ours.norm(dim=1), theirs.norm(dim=1))
            assert torch.allclose(torch.cosine_similarity(ours, plain), torch.ones(2))
    assert torch.allclose(QwenBackbone.guide(negative, positive, 1.0), positive, atol=1e-6)


@pytest.mark.parametrize("extra", [0, 4])
def test_published_sizes(extra) -> None:
    """Without allocating a weight: the networks of the real sizes have diffusers' parameters, name by name."""
    config = {"num_layers": 5, "extra_condition_channels": extra}
    with torch.device("meta"):
        network = QwenImageTransformer2DModel()
        net = ControlNet.build(
            QwenBackbone(network), ControlNetConfig(), {"_class_name": "QwenImageControlNetModel", **config}
        )
        theirs = QwenImageControlNetModel(**config)
    shapes = [{name: value.shape for name, value in one.items()} for one in (net.published(), theirs.state_dict())]
    assert shapes[0] == shapes[1]
    counted = [round(sum(value.numel() for value in one.parameters()) / 1e6) for one in (network, net)]
    assert counted == [20430, 1768]
    assert net.wiring[0] == tuple(range(12))
