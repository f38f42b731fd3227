"""Stable Diffusion 3 equals diffusers', forward and backward, in every topology that published ControlNets have."""

import pytest
import torch
from diffusers import SD3ControlNetModel, SD3Transformer2DModel
from tests.compared import assert_same_gradients, assert_saved_alike
from tests.tiny_sd3 import MEDIUM, PROJECTIONS, WIDTH, published, tiny_sd3, tiny_transformer

from maquette.backbones.transformers.sd3 import SD3Backbone
from maquette.checkpoints.controlnets import read_controlnet
from maquette.controlnet.network import ControlNet, ControlNetConfig
from maquette.text.conditioning import Conditioning

T = torch.tensor([871.0, 13.5])


def inputs(side: tuple[int, int] = (12, 8)) -> tuple[torch.Tensor, Conditioning, torch.Tensor]:
    """Latents, text, and the latents of a condition."""
    generator = torch.Generator().manual_seed(3)
    z, condition = torch.randn(2, 2, 4, *side, generator=generator)
    states, pooled = (
        torch.randn(2, 9, WIDTH, generator=generator),
        torch.randn(2, sum(PROJECTIONS), generator=generator),
    )
    return z, Conditioning(states, pooled=pooled), condition


@pytest.mark.parametrize("more", [{}, MEDIUM], ids=["3", "3.5"])
@pytest.mark.parametrize("side", [(16, 16), (12, 8), (2, 24)])
@torch.no_grad()
def test_halves_make_the_whole(more, side) -> None:
    """Also at sizes beside the trained one, where the table of positions is cropped."""
    network = tiny_transformer(**more)
    backbone, (z, text, _) = SD3Backbone(network), inputs(side)
    theirs = network(z, text.hidden_states, text.pooled, T).sample
    assert theirs.std() > 0.1
    assert torch.allclose(backbone.finish(backbone.prepare(z, T, text)), theirs, atol=1e-5)


LARGE_OWN = {
    "joint_attention_dim": None, "use_pos_embed": False, "pos_embed_type": None,
    "force_zeros_for_pooled_projection": False,
}  # fmt: skip
PUBLISHED = {
    "3 medium, InstantX's canny": (24, {}, {"num_layers": 6}),
    "3.5 large's own": (38, {"qk_norm": "rms_norm"}, LARGE_OWN | {"num_layers": 19}),
}


@pytest.mark.parametrize(("heads", "of_base", "of_net"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_sizes(heads, of_base, of_net) -> None:
    """Without allocating a weight: the networks of the real sizes have diffusers' parameters, name by name."""
    sizes = {
        "num_attention_heads": heads, "attention_head_dim": 64, "caption_projection_dim": 64 * heads,
        "joint_attention_dim": 4096, "pos_embed_max_size": 192, **of_base,
    }  # fmt: skip
    with torch.device("meta"):
        network = SD3Transformer2DModel(num_layers=heads, **sizes)
        net = ControlNet.build(SD3Backbone(network), ControlNetConfig(), of_net)
        theirs = SD3ControlNetModel(**{**sizes, **of_net})
    shapes = [{name: value.shape for name, value in one.items()} for one in (net.published(), theirs.state_dict())]
    assert shapes[0] == shapes[1]
    counted = [round(sum(value.numel() for value in one.parameters()) / 1e6) for one in (network, theirs)]
    assert counted[0] == 2028 if heads == 24 else counted[1] == 2154


FORMS = {
    "all but the last": {"blocks": 3},
    "M | N": {"blocks": 2},
    "M does not divide N": {"blocks": 3, "base_blocks": 5},
    "one": {"blocks": 1, "base_blocks": 5},
    "as many as the base": {"blocks": 4},
    "more than the base": {"blocks": 6},
    "3.5": {"blocks": 3, "base_blocks": 5, **MEDIUM},
    "not shifted": {"blocks": 2, "force_zeros_for_pooled_projection": False},
    "3.5 large's own": {"blocks": 2, "base_blocks": 4, "qk_norm": "rms_norm", **LARGE_OWN},
}  # fmt: skip


def theirs_and_ours(form, tmp_path):
    form = dict(form)
    blocks, base_blocks = form.pop("blocks"), form.pop("base_blocks", 4)
    of_base = {name: value for name, value in form.items() if name in MEDIUM}
    base = tiny_sd3(blocks=base_blocks, **of_base)
    theirs = published(base, blocks, **form)
    theirs.save_pretrained(tmp_path)
    return base, theirs, read_controlnet(tmp_path, base.backbone).requires_grad_(True)


@pytest.mark.parametrize("form", FORMS)
def test_residuals_prediction_and_gradients(form, tmp_path) -> None:
    """Of a net that diffusers wrote: residuals, the base's prediction with them, and every gradient of the net."""
    base, theirs, net = theirs_and_ours(FORMS[form], tmp_path)
    z, text, condition = inputs()
    network, config = base.backbone.network, theirs.config
    embedded = z if config.use_pos_embed else network.pos_embed(z)
    pooled = torch.zeros_like(text.pooled) if config.force_zeros_for_pooled_projection else text.pooled
    states = text.hidden_states if config.joint_attention_dim else None
    samples = theirs(embedded, condition, 1.0, states, pooled, T, return_dict=False)[0]
    predicted = network(z, text.hidden_states, text.pooled, T, samples).sample
    predicted.square().mean().backward()

    residuals = net(z, T, text, net.encode(condition))
    ours = base.predict(z, T, text, residuals)
    ours.square().mean().backward()
    assert len(residuals) == network.config.num_layers - 1
    for slot, residual in enumerate(residuals):
        expected = samples[int(slot / (network.config.num_layers / len(samples)))]
        assert expected.std() > 0.1
        assert torch.allclose(residual.flatten(2).mT, expected, atol=1e-5)
    assert torch.allclose(ours, predicted, atol=1e-5)
    assert_same_gradients(net, theirs)


@pytest.mark.parametrize("form", FORMS)
def test_saved_it_is_the_file_that_diffusers_wrote(form, tmp_path) -> None:
    _, theirs, net = theirs_and_ours(FORMS[form], tmp_path / "theirs")
    assert_saved_alike(net, theirs, tmp_path / "ours")
