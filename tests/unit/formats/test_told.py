"""What a network is told by tensors that are missing or of any shape is told, or refused by a sentence."""

from collections.abc import Callable, Iterator

import pytest
import torch
from tests import tiny_flux, tiny_qwen, tiny_sd3
from tests.conftest import tiny_base

from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError
from maquette.formats import topology
from maquette.formats.transformers import flux, known, qwen, sd3
from maquette.foundation.weights import Shape, Weights

pytestmark = pytest.mark.filterwarnings("ignore:.FluxPosEmbed:FutureWarning")  # of diffusers, to itself
Shapes = dict[str, Shape]


def shapes_of(network: torch.nn.Module) -> Shapes:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def of_pixels() -> Shapes:
    net = tiny_flux.published(tiny_flux.tiny_transformer(), 2, **tiny_flux.XLABS)
    return {name: tuple(value.shape) for name, value in tiny_flux.originals(net.state_dict()).items()}


NETS: dict[str, Callable[[], Shapes]] = {
    "flux": lambda: shapes_of(tiny_flux.published(tiny_flux.tiny_transformer(), 2, 1)),
    "flux of modes": lambda: shapes_of(tiny_flux.published(tiny_flux.tiny_transformer(), 2, num_mode=7)),
    "flux of pixels": of_pixels,
    "qwen": lambda: shapes_of(tiny_qwen.published(tiny_qwen.tiny_transformer(), 1)),
    "sd3": lambda: shapes_of(tiny_sd3.published(tiny_sd3.tiny_sd3(), 2)),
}


def changed(shapes: Shapes) -> Iterator[tuple[str, Shapes]]:
    """Each tensor missing, and in other shapes."""
    for name, shape in shapes.items():
        rest = {other: its for other, its in shapes.items() if other != name}
        yield name, rest
        for another in ((), (0,), (1,), (*shape, 1), shape[:-1], (0,) * len(shape)):
            yield name, {**rest, name: another}


def held(shapes: Shapes) -> Weights:
    """Weights of which no value is read."""
    return Weights("held", shapes, lambda name: pytest.fail(f"{name} was read"), {})


@pytest.mark.parametrize("kind", NETS)
def test_controlnets_of_transformers(kind) -> None:
    shapes, said = NETS[kind](), []
    family = {"flux": flux, "qwen": qwen, "sd3": sd3}[kind.split()[0]]
    assert family.told_config(held(shapes))["num_layers"] > 0
    for _, others in changed(shapes):
        try:
            family.told_config(held(others))
            if (found := known.of_control(others)) is not None:
                found.summary(found.as_diffusers(held(others)).shapes)
        except MaquetteError as error:
            said.append(str(error))
    assert len(said) >= 8
    assert all("network of" in words or "fetch it anew" in words for words in said)


def test_networks_of_stable_diffusion() -> None:
    shapes, said = shapes_of(ControlNet.attach(tiny_base("sd15")).trainable_copy), []
    assert topology.unet_config(shapes, heads=2)["cross_attention_dim"] > 0
    for _, others in changed(shapes):
        try:
            topology.unet_config(others, heads=2)
            topology.slot_channels(others)
        except MaquetteError as error:
            said.append(str(error))
    assert len(said) >= 20
    assert all("they belong to no network of Stable Diffusion" in words for words in said)
