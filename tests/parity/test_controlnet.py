"""With random zero convolutions, residuals and prediction equal diffusers'."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import ControlNetModel
from tests.conftest import FAMILIES, randomise, text_for, tiny_unet

from maquette.backbones.unet import UNetBackbone
from maquette.checkpoints.controlnets import read_controlnet
from maquette.controlnet.network import ControlNet
from maquette.text.conditioning import Conditioning


def added_cond_kwargs(text: Conditioning) -> dict[str, torch.Tensor] | None:
    return None if text.pooled is None else {"text_embeds": text.pooled, "time_ids": text.time_ids}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", [16, 12, 9])
def test_halves_make_the_whole(family: str, side: int) -> None:
    """`prepare` and `finish` together equal the U-Net, for latents with odd sides too."""
    unet = tiny_unet(family)
    backbone = UNetBackbone(unet)
    text = text_for(backbone)
    z = torch.randn(2, backbone.latent_channels, side, side)
    with torch.no_grad():
        theirs = unet(z, 321, text.hidden_states, added_cond_kwargs=added_cond_kwargs(text)).sample
        ours = backbone.finish(backbone.prepare(z, 321, text))
        per_row = backbone.finish(backbone.prepare(z, torch.tensor([321, 321]), text))
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert torch.allclose(per_row, theirs, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_residuals_and_prediction(family: str, tmp_path) -> None:
    unet = tiny_unet(family)
    backbone = UNetBackbone(unet)
    net = randomise(ControlNet.attach(SimpleNamespace(backbone=backbone)))
    net.save(tmp_path)
    theirs, report = ControlNetModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]

    text = text_for(backbone)
    z, condition = torch.randn(2, backbone.latent_channels, 16, 16), torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        down, middle = theirs(
            z, 321, text.hidden_states, condition, added_cond_kwargs=added_cond_kwargs(text), return_dict=False
        )
        epsilon = unet(
            z,
            321,
            text.hidden_states,
            added_cond_kwargs=added_cond_kwargs(text),
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample
        residuals = net(z, 321, text, net.encode(condition))
        ours = backbone.finish(backbone.prepare(z, 321, text), residuals)
    assert len(residuals) == len(down) + 1
    for mine, reference in zip(residuals, [*down, middle], strict=True):
        assert reference.abs().max() > 1e-2  # so that this can fail
        assert torch.allclose(mine, reference, atol=1e-5)
    assert torch.allclose(ours, epsilon, atol=1e-5)


def test_reads_what_diffusers_wrote(tmp_path) -> None:
    unet = tiny_unet("sd15")
    theirs = ControlNetModel.from_unet(unet)
    for block in (
        *theirs.controlnet_down_blocks,
        theirs.controlnet_mid_block,
        theirs.controlnet_cond_embedding.conv_out,
    ):
        torch.nn.init.normal_(block.weight, std=0.2)
    theirs.save_pretrained(tmp_path)
    net = read_controlnet(tmp_path, UNetBackbone(unet))
    z, text, condition = torch.randn(1, 4, 16, 16), torch.randn(1, 7, 24), torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        down, middle = theirs(z, 10, text, condition, return_dict=False)
        residuals = net(z, 10, text, net.encode(condition))
    for mine, reference in zip(residuals, [*down, middle], strict=True):
        assert torch.allclose(mine, reference, atol=1e-5)


@pytest.mark.parametrize("options", [{"encoder": "paper"}, {"connect": "middle"}, {"variant": "lite"}], ids=str)
def test_saved_and_loaded_is_the_same(options, tmp_path) -> None:
    backbone = UNetBackbone(tiny_unet("sd15"))
    net = randomise(ControlNet.attach(SimpleNamespace(backbone=backbone), **options))
    net.save(tmp_path)
    again = read_controlnet(tmp_path, backbone)
    assert again.config == net.config
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))
