"""Flux.1 equals diffusers', forward and backward, in every topology that published ControlNets have."""

import pytest
import torch
from diffusers import FluxControlNetModel, FluxTransformer2DModel
from tests.compared import assert_same_gradients, assert_saved_alike
from tests.tiny_flux import POOLED, XLABS, published, tiny_transformer
from tests.tiny_sd3 import WIDTH

from maquette.backbones.transformers.flux import FluxBackbone
from maquette.backbones.transformers.packing import pack, unpack
from maquette.checkpoints.controlnets import read_controlnet
from maquette.controlnet.network import ControlNet, ControlNetConfig
from maquette.text.conditioning import Conditioning

pytestmark = pytest.mark.filterwarnings("ignore:.FluxPosEmbed:FutureWarning")  # of diffusers, to itself

T = torch.tensor([875.0, 12.5])


def inputs(side: tuple[int, int] = (12, 8)) -> tuple[torch.Tensor, Conditioning, torch.Tensor]:
    """Latents, text with a scale of guidance, and a condition, 3 channels of pixels."""
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(2, 4, *side, generator=generator)
    states = torch.randn(2, 9, WIDTH, generator=generator)
    pooled = torch.randn(2, POOLED, generator=generator)
    text = Conditioning(states, pooled=pooled, guidance=torch.tensor([3.5, 2.0]))
    return z, text, torch.rand(2, 3, 8 * side[0], 8 * side[1], generator=generator)


def ids(z: torch.Tensor, text: Conditioning) -> dict[str, torch.Tensor]:
    """The positions that diffusers' pipeline gives."""
    rows, columns = z.shape[2] // 2, z.shape[3] // 2
    places = torch.zeros(rows, columns, 3)
    places[..., 1] += torch.arange(rows)[:, None]
    places[..., 2] += torch.arange(columns)[None, :]
    return {"img_ids": places.reshape(-1, 3), "txt_ids": torch.zeros(text.hidden_states.shape[1], 3)}


def given(z: torch.Tensor, text: Conditioning, guided: bool) -> dict:
    return {
        "encoder_hidden_states": text.hidden_states, "pooled_projections": text.pooled, "timestep": T / 1000,
        "guidance": text.guidance if guided else None, "return_dict": False, **ids(z, text),
    }  # fmt: skip


def test_packing_is_that_of_diffusers_and_is_undone() -> None:
    z = torch.randn(2, 3, 6, 4)
    tokens = z.view(2, 3, 3, 2, 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(2, 6, 12)
    assert torch.equal(pack(z), tokens)
    assert torch.equal(unpack(tokens, (3, 2)), z)


@pytest.mark.parametrize("guided", [True, False], ids=["dev", "schnell"])
@pytest.mark.parametrize("side", [(12, 8), (2, 24)])
@torch.no_grad()
def test_halves_make_the_whole(guided, side) -> None:
    network = tiny_transformer(guidance_embeds=guided)
    backbone, (z, text, _) = FluxBackbone(network), inputs(side)
    (theirs,) = network(pack(z), **given(z, text, guided))
    assert theirs.std() > 0.1
    ours = backbone.finish(backbone.prepare(z, T, text))
    assert torch.allclose(pack(ours), theirs, atol=1e-5)


FORMS = {
    "5 + 0": {"doubles": 5},
    "5 + 10, modes": {"doubles": 5, "singles": 10, "num_mode": 10},
    "6 + 0": {"doubles": 6},
    "XLabs": {"doubles": 2, **XLABS},
    "0 + 3": {"doubles": 0, "singles": 3},
    "painting": {"doubles": 2, "paints": True},
    "not guided": {"doubles": 2, "singles": 1, "guidance_embeds": False},
}
BASE = (7, 11)  # blocks of both kinds: no number above divides them
MODE = 3


def theirs_and_ours(form, tmp_path):
    network = tiny_transformer(*BASE)
    theirs = published(network, **FORMS[form])
    theirs.save_pretrained(tmp_path)
    backbone = FluxBackbone(network)
    return backbone, theirs, read_controlnet(tmp_path, backbone).requires_grad_(True)


@pytest.mark.parametrize("form", FORMS)
def test_residuals_prediction_and_gradients(form, tmp_path) -> None:
    """Of a net that diffusers wrote: residuals, the base's prediction with them, and every gradient of the net."""
    backbone, theirs, net = theirs_and_ours(form, tmp_path)
    z, text, pixels = inputs()
    network, config = backbone.network, theirs.config
    pixel_net = theirs.input_hint_block is not None
    channels = 4 + (net.control.paints == "only")
    latents = torch.randn(2, channels, *z.shape[2:], generator=torch.Generator().manual_seed(9))
    mode = torch.full((2, 1), MODE) if config.num_mode else None
    doubles, singles = theirs(
        pack(z), 2 * pixels - 1 if pixel_net else pack(latents), mode, **given(z, text, config.guidance_embeds)
    )
    (predicted,) = network(
        pack(z), controlnet_block_samples=doubles, controlnet_single_block_samples=singles,
        controlnet_blocks_repeat=pixel_net, **given(z, text, True),
    )  # fmt: skip
    predicted.square().mean().backward()

    features = net.encode(pixels if pixel_net else latents)
    residuals = net(z, T, text, features if mode is None else [net.typed(features, "blur")])
    ours = backbone.finish(backbone.prepare(z, T, text), residuals)
    ours.square().mean().backward()
    for kind, samples, blocks in ((0, doubles, BASE[0]), (BASE[0], singles, BASE[1])):
        for number in range(blocks):
            residual = residuals[kind + number]
            if samples is None:
                assert residual is None
                continue
            every = -(-blocks // len(samples))
            expected = samples[number % len(samples) if pixel_net else number // every]
            assert expected.std() > 0.1
            assert torch.allclose(residual.flatten(2).mT, expected, atol=1e-5 * float(expected.detach().abs().max()))
    assert (pack(ours) - predicted).abs().max() <= 1e-5 * predicted.abs().max()
    assert_same_gradients(net, theirs)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "painting"])
def test_saved_it_is_the_file_that_diffusers_wrote(form, tmp_path) -> None:
    _, theirs, net = theirs_and_ours(form, tmp_path / "theirs")
    assert_saved_alike(net, theirs, tmp_path / "ours")


def test_an_output_that_no_block_gets_is_not_computed(tmp_path) -> None:
    """Of six on 19 double blocks each of five goes to four or three of them: the sixth block is not run."""
    network, ran = tiny_transformer(19, 0), []
    backbone = FluxBackbone(network)
    published(network, 6).save_pretrained(tmp_path)
    net = read_controlnet(tmp_path, backbone)
    for number, block in enumerate(net.trainable_copy.transformer_blocks):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    z, text, _ = inputs()
    with torch.no_grad():
        residuals = net(z, T, text, net.encode(z))
    assert ran == [0, 1, 2, 3, 4]
    assert len({id(residual) for residual in residuals}) == 5


SIZES = {
    "InstantX's canny": (1792, {"num_layers": 5, "num_single_layers": 0, "guidance_embeds": True}),
    "Union-Pro": (3302, {"num_layers": 5, "num_single_layers": 10, "guidance_embeds": True, "num_mode": 10}),
    "Union-Pro-2.0": (2141, {"num_layers": 6, "num_single_layers": 0, "guidance_embeds": True}),
    "XLabs": (
        744,
        {
            "num_layers": 2, "num_single_layers": 0, "guidance_embeds": True, "patch_size": 2,
            "conditioning_embedding_channels": 16,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize(("millions", "config"), SIZES.values(), ids=SIZES)
def test_published_sizes(millions, config) -> None:
    """Without allocating a weight: the networks of the real sizes have diffusers' parameters, name by name."""
    with torch.device("meta"):
        network = FluxTransformer2DModel(guidance_embeds=True)
        net = ControlNet.build(
            FluxBackbone(network), ControlNetConfig(), {"_class_name": "FluxControlNetModel", **config}
        )
        theirs = FluxControlNetModel(**config)
    shapes = [{name: value.shape for name, value in one.items()} for one in (net.published(), theirs.state_dict())]
    assert shapes[0] == shapes[1]
    counted = [round(sum(value.numel() for value in one.parameters()) / 1e6) for one in (network, net)]
    assert counted == [11901, millions]
