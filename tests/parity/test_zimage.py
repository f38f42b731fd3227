"""Z-Image equals diffusers', forward and backward; its ControlNets equal the published arithmetic.

That of versions 2.0 and 2.1 is VideoX-Fun's: what a ControlNet adds to the refiner of the image reaches the base as
well, where diffusers adds it for the eyes of the ControlNet alone. So the reference is diffusers' two networks, with
hooks that bring these outputs of the one into the other.
"""

from contextlib import ExitStack, contextmanager

import pytest
import torch
from diffusers import ZImageControlNetModel, ZImageTransformer2DModel
from tests.compared import assert_same_gradients, assert_saved_alike
from tests.conftest import randomise
from tests.tiny_sd3 import WIDTH
from tests.tiny_zimage import FORMS, published, tiny_transformer

import maquette as mq
from maquette.backbones.residuals import Residuals
from maquette.backbones.transformers.packing import patches, tokens_of, unpatched
from maquette.backbones.transformers.zimage import ZImageBackbone
from maquette.checkpoints.controlnets import read_controlnet
from maquette.controlnet.network import ControlNet, ControlNetConfig
from maquette.text.conditioning import Conditioning

T = torch.tensor([875.0, 12.5])
BASE = 5  # blocks
LENGTHS = {"one length": (9, 9), "filled up alike": (5, 32), "of unlike length": (5, 40)}


def inputs(side: tuple[int, int] = (12, 8), lengths: tuple[int, int] = (5, 40)) -> tuple[torch.Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(2, 4, *side, generator=generator)
    rows = [torch.randn(length, WIDTH, generator=generator) for length in lengths]
    return z, Conditioning.stack([Conditioning(row) for row in rows])


def given(z: torch.Tensor, text: Conditioning) -> tuple[list, torch.Tensor, list]:
    lengths = text.mask.sum(dim=1).tolist() if text.mask is not None else [text.hidden_states.shape[1]] * 2
    states = [row[:length] for row, length in zip(text.hidden_states, lengths, strict=True)]
    return list(z[:, :, None]), (1000 - T) / 1000, states


def predicted(network: ZImageTransformer2DModel, z: torch.Tensor, text: Conditioning, samples=None) -> torch.Tensor:
    """diffusers' prediction, with the sign that its pipeline gives it."""
    return -torch.stack(network(*given(z, text), controlnet_block_samples=samples)[0])[:, :, 0]


@contextmanager
def refined_with(network: ZImageTransformer2DModel, hints):
    """While a base runs: what a ControlNet adds after each block of its refiner."""
    with ExitStack() as stack:
        for block, hint in zip(network.noise_refiner, hints, strict=True):
            stack.callback(block.register_forward_hook(lambda *call, hint=hint: call[-1] + hint).remove)
        yield


def reference(theirs: ZImageControlNetModel, network, z, text, condition, scale: float = 1.0):
    """What is added to the refiner, what to the blocks behind it, and the prediction with both."""
    blocks, seen = theirs.control_layers, []
    if theirs.config.add_control_noise_refiner == "control_noise_refiner":
        blocks = theirs.control_noise_refiner
    hook = blocks[-1].register_forward_hook(lambda *call: seen.append(call[-1]))
    samples = theirs(*given(z, text), list(condition[:, :, None]), conditioning_scale=scale)
    hook.remove()
    hints = []
    if theirs.config.add_control_noise_refiner:
        hints = [hint * scale for hint in seen[0].unbind()[:2]]
    with refined_with(network, hints) if hints else ExitStack():
        return hints, samples, predicted(network, z, text, samples)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("side", [(12, 8), (16, 16), (2, 64)])
@torch.no_grad()
def test_halves_make_the_whole(side, lengths) -> None:
    """With padding of the image, of texts, and behind texts in a batch, and without."""
    network = tiny_transformer()
    backbone, (z, text) = ZImageBackbone(network), inputs(side, lengths)
    expected = predicted(network, z, text)
    assert expected.std() > 0.1
    ours = backbone.finish(backbone.prepare(z, T, text))
    assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("refiner", [None, "control_layers", "control_noise_refiner"])
@torch.no_grad()
def test_a_row_does_not_depend_on_its_neighbours(refiner) -> None:
    network = tiny_transformer()
    backbone, (z, text) = ZImageBackbone(network), inputs()
    config = {"control_layers_places": [0, 2], "control_in_dim": 4, "add_control_noise_refiner": refiner}
    net = randomise(ControlNet.build(backbone, ControlNetConfig(), config), 7)
    features = net.encode(z.flip(0))
    both = backbone.finish(backbone.prepare(z, T, text), net(z, T, text, features))
    for row in range(2):
        one = slice(row, row + 1)
        residuals = net(z[one], T[one], text[one], features[one])
        alone = backbone.finish(backbone.prepare(z[one], T[one], text[one]), residuals)
        assert (both[one] - alone).abs().max() <= 1e-5 * alone.abs().max()


def test_patches_are_diffusers() -> None:
    z = torch.randn(1, 4, 6, 10)
    theirs, _, _ = tiny_transformer()._patchify_image(z[0][:, None], 2, 1)
    assert torch.equal(tokens_of(patches(z))[0], theirs)
    assert torch.equal(unpatched(theirs[None], (3, 5)), z)


def theirs_and_ours(form: str, tmp_path, blocks: int = 3):
    network = tiny_transformer(BASE)
    theirs = published(network, form, blocks)
    theirs.save_pretrained(tmp_path)
    backbone = ZImageBackbone(network)
    return backbone, theirs, read_controlnet(tmp_path, backbone).requires_grad_(True)


@pytest.mark.parametrize("side", [(12, 8), (16, 16)])
@pytest.mark.parametrize("scale", [1.0, 0.6])
@pytest.mark.parametrize("form", FORMS)
def test_residuals_prediction_and_gradients(form, scale, side, tmp_path) -> None:
    """Of a net that diffusers wrote: residuals, the base's prediction with them, and every gradient of the net."""
    backbone, theirs, net = theirs_and_ours(form, tmp_path)
    z, text = inputs(side)
    condition = torch.randn(2, net.control.design.channels, *side, generator=torch.Generator().manual_seed(9))
    hints, samples, expected = reference(theirs, backbone.network, z, text, condition, scale)
    expected.square().mean().backward()

    residuals = net(z, T, text, net.encode(condition), lambda residuals: residuals.scaled(scale)).scaled(scale)
    ours = backbone.finish(backbone.prepare(z, T, text), residuals)
    ours.square().mean().backward()
    by_slot = {**dict(enumerate(hints)), **{2 + place: sample for place, sample in samples.items()}}
    assert by_slot.keys() == {slot for slot in range(2 + BASE) if residuals[slot] is not None}
    image = -(-side[0] * side[1] // 4 // 32) * 32
    for slot, sample in by_slot.items():
        mine = torch.cat([tokens_of(residuals[slot]), residuals.beside[slot]], dim=1)
        assert mine.shape == sample.shape
        for row, end in enumerate((image + 32, image + 64)):  # what stands behind the shorter text is nobody's
            assert sample[row, :end].std() > 0.05
            assert (mine - sample)[row, :end].abs().max() <= 1e-5 * sample[row, :end].abs().max()
    assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert_same_gradients(net, theirs, "control_")


@pytest.mark.parametrize("form", ["2.0", "2.1"])
@torch.no_grad()
def test_what_diffusers_leaves_out_matters(form, tmp_path) -> None:
    backbone, theirs, net = theirs_and_ours(form, tmp_path)
    z, text = inputs()
    condition = torch.randn(2, 9, 12, 8, generator=torch.Generator().manual_seed(9))
    _, samples, expected = reference(theirs, backbone.network, z, text, condition)
    left_out = predicted(backbone.network, z, text, samples)
    assert (left_out - expected).abs().max() > 0.05 * expected.abs().max()
    residuals = net(z, T, text, net.encode(condition))
    without = Residuals([None, None, *residuals.values[2:]], beside=[None, None, *residuals.beside[2:]])
    ours = backbone.finish(backbone.prepare(z, T, text), without)
    assert (ours - left_out).abs().max() <= 1e-5 * left_out.abs().max()


@pytest.mark.parametrize("form", FORMS)
def test_saved_it_is_the_file_that_diffusers_wrote(form, tmp_path) -> None:
    _, theirs, net = theirs_and_ours(form, tmp_path / "theirs")
    assert_saved_alike(net, theirs, tmp_path / "ours", "control_")


@pytest.mark.parametrize("blocks", [1, 2, 5])
@torch.no_grad()
def test_a_new_one_changes_no_bit(blocks) -> None:
    """Blocks that divide those of the base and that do not; each is a copy of the base's where it stands."""
    network = tiny_transformer(BASE)
    backbone, (z, text) = ZImageBackbone(network), inputs()

    class Held:
        pass

    Held.backbone = backbone
    net = mq.ControlNet.attach(Held, blocks=blocks)
    residuals = net(z, T, text, net.encode(torch.randn(2, 4, 12, 8)))
    plain = backbone.finish(backbone.prepare(z, T, text))
    assert torch.equal(backbone.finish(backbone.prepare(z, T, text), residuals), plain)
    places = {1: (0,), 2: (0, 2), 5: (0, 1, 2, 3, 4)}[blocks]
    assert net.control.design.places == places
    for block, place in zip(net.trainable_copy.control_layers, places, strict=True):
        base = network.layers[place].state_dict()
        assert all(torch.equal(value, base[name]) for name, value in block.state_dict().items())


PUBLISHED = {
    "1.0": ([0, 5, 10, 15, 20, 25], 16, None, 1551),
    "2.0": (list(range(0, 30, 2)), 33, "control_layers", 2950),
    "2.1": (list(range(0, 30, 2)), 33, "control_noise_refiner", 3356),
    "2.1 lite": ([0, 10, 20], 33, "control_noise_refiner", 1008),
}
"""By version: places, channels of the condition, refiner, and millions of parameters as diffusers has them."""


@pytest.mark.parametrize("form", PUBLISHED)
def test_published_sizes(form) -> None:
    """Without allocating a weight: the networks of the real sizes have diffusers' parameters, name by name."""
    places, channels, refiner, expected = PUBLISHED[form]
    early = [0, 1] if refiner else []
    config = {
        "control_layers_places": places, "control_in_dim": channels, "add_control_noise_refiner": refiner,
        "control_refiner_layers_places": early,
    }  # fmt: skip
    with torch.device("meta"):
        network = ZImageTransformer2DModel()
        net = ControlNet.build(
            ZImageBackbone(network), ControlNetConfig(), {"_class_name": "ZImageControlNetModel", **config}
        )
        theirs = ZImageControlNetModel(**config)
    shapes = [{name: value.shape for name, value in one.items()} for one in (net.published(), theirs.state_dict())]
    assert shapes[0] == shapes[1]
    counted = [round(sum(value.numel() for value in one.parameters()) / 1e6) for one in (network, net)]
    assert counted == [6155, expected]
