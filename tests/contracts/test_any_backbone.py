"""On every registered backbone a ControlNet attaches, composes, is scheduled, masked, trained, resumed and saved."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import FAMILIES as UNETS
from tests.conftest import randomise, tiny_base
from tests.own_pairs import weights, write_pairs
from tests.tiny_flux import tiny_flux
from tests.tiny_qwen import tiny_qwen
from tests.tiny_sd3 import MEDIUM, tiny_sd3
from tests.tiny_zimage import tiny_zimage
from tests.toy_backbone import toy_base

import maquette as mq
from maquette.backbones.residuals import Residuals
from maquette.base import Base
from maquette.checkpoints.bases import load_base  # imports every bundled family
from maquette.checkpoints.families import FAMILIES
from maquette.checkpoints.save import save_base
from maquette.controlnet.network import ControlNet

BASES: dict[str, dict[str, Callable[[], Base]]] = {
    "stable-diffusion": {name: lambda name=name: tiny_base(name) for name in UNETS},  # type: ignore[misc]
    "stable-diffusion-3": {"sd3": tiny_sd3, "sd3 of five blocks": lambda: tiny_sd3(t5=False, blocks=5, **MEDIUM)},
    "flux": {"flux": tiny_flux},
    "qwen-image": {"qwen": tiny_qwen},
    "z-image": {"zimage": tiny_zimage},
    "toy": {"toy": toy_base},
}
"""By family: small bases with random weights."""

ALL = {name: make for bases in BASES.values() for name, make in bases.items()}
SIZE = (64, 64)
MAPS = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=ALL)
def base(request: pytest.FixtureRequest) -> Base:
    return ALL[request.param]()


def net_on(base: Base, seed: int = 7) -> ControlNet:
    return randomise(mq.ControlNet.attach(base), seed)


def inputs(base: Base, net: ControlNet) -> tuple:
    z = torch.randn(2, base.backbone.latent_channels, 8, 8, generator=torch.Generator().manual_seed(1)).to(base.dtype)
    text = base.encode_text(["a b", ""], SIZE).to(base.dtype)
    return z, 500, text, net.encode(net.condition_input(MAPS, base.encode_maps))


@torch.no_grad()
def predict(base: Base, *nets: ControlNet) -> torch.Tensor:
    """The base's prediction, with the residuals of ControlNets."""
    z, t, text, _ = inputs(base, nets[0])
    residuals = [net(*inputs(base, net)) for net in nets]
    return base.predict(z, t, text, sum(residuals[1:], residuals[0]))


@torch.no_grad()
def plain(base: Base) -> torch.Tensor:
    z, t, text, _ = inputs(base, mq.ControlNet.attach(base))
    return base.predict(z, t, text)


def images(base: Base, *controls: mq.Control, **settings) -> np.ndarray:
    generated = mq.generate(base, "a b", controls, **{"steps": 4, "guidance": 3.0, "size": SIZE, **settings})
    return np.stack([np.asarray(image, np.int16) for image in generated])


def test_every_family_is_tested() -> None:
    assert {family.name for family in FAMILIES} == set(BASES)
    for name, makers in BASES.items():
        assert all(make().backbone.family == name for make in makers.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_new_one_leaves_the_output_bitwise_unchanged_and_a_random_one_does_not(base, dtype) -> None:
    base.backbone.network.to(dtype)
    for options in ({}, {"connect": "middle"}, {"variant": "lite"}):
        net = mq.ControlNet.attach(base, **options)
        assert net.dtype == dtype
        assert torch.equal(predict(base, net), plain(base))
        assert not torch.equal(predict(base, randomise(net)), plain(base))


def test_nothing_before_the_first_slot_gets_a_gradient_and_the_copy_does(base) -> None:
    net = net_on(base)
    z, t, text, _ = inputs(base, net)
    base.predict(z, t, text, net(*inputs(base, net))).square().mean().backward()
    assert all(parameter.grad is None for parameter in base.backbone.network.parameters())
    reached = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"trainable_copy", "condition_encoder", "zero_convs"}


def test_outputs_go_to_the_slots_they_are_wired_to(base) -> None:
    net = net_on(base)
    with torch.no_grad():
        residuals = net(*inputs(base, net))
    slots, outputs = base.backbone.slots, net.control.outputs
    assert len(residuals) == len(slots)
    for output, places in zip(outputs, net.wiring, strict=True):
        for place in places:
            height = 8 // slots[place].downscale
            assert residuals[place].shape == (2, output.channels, height, height)
            assert residuals[place] is residuals[places[0]]


def test_an_unused_output_is_not_computed(base, monkeypatch) -> None:
    """Neither its zero layer nor the block that only this output needs."""
    net, ran = net_on(base), []
    lists = (getattr(net.trainable_copy, name, None) for name in ("transformer_blocks", "control_layers", "blocks"))
    last_block = getattr(net.trainable_copy, "mid_block", None) or next(blocks for blocks in lists if blocks)[-1]
    for module in (net.zero_convs[-1], last_block):
        module.register_forward_hook(lambda *_: ran.append("it ran"))
    with torch.no_grad():
        net(*inputs(base, net))
        assert len(ran) == 2
        monkeypatch.setattr(ControlNet, "wiring", (*net.wiring[:-1], ()))
        net(*inputs(base, net))
    assert len(ran) == 2


def test_two_compose_as_the_sum_of_their_residuals(base) -> None:
    first, second = net_on(base, 1), net_on(base, 2)
    z, t, text, _ = inputs(base, first)
    with torch.no_grad():
        parts = [net(*inputs(base, net)) for net in (first, second)]
        values, beside = (
            [None if a is None else a + b for a, b in zip(*both, strict=True)]
            for both in (parts, [part.beside for part in parts])
        )
        expected = base.predict(z, t, text, Residuals(values, beside=beside))
    assert torch.equal(predict(base, first, second), expected)
    assert not torch.equal(expected, predict(base, first))


def test_weights_schedules_and_branches(base) -> None:
    net, maps = net_on(base), MAPS[:1]
    without, control = images(base), images(base, mq.Control(net, maps))
    assert np.array_equal(images(base, mq.Control(net, maps, weight=0)), without)
    assert not np.array_equal(control, without)
    assert not np.array_equal(images(base, mq.Control(net, maps, weight=0.3)), control)
    halves = mq.Control(net, maps, weight=0.5)
    assert np.abs(images(base, halves, halves) - control).max() <= 1
    assert not np.array_equal(images(base, mq.Control(net, maps, end=0.5)), control)
    in_turn = mq.Control(net, maps, end=0.5), mq.Control(net, maps, start=0.5)
    assert np.abs(images(base, *in_turn) - control).max() <= 1
    for where in ("conditional", "weighted"):
        assert not np.array_equal(images(base, mq.Control(net, maps), condition_in=where), control)


def test_latents_are_unchanged_one_cell_beyond_the_mask(base, monkeypatch) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    mask = Image.fromarray(np.repeat(np.arange(64)[None] >= 32, 64, axis=0).astype(np.uint8) * 255)
    generated, decode = [], base.decode_latents
    monkeypatch.setattr(base, "decode_latents", lambda x, *more: generated.append(x) or decode(x, *more))
    images(base, mq.Control(net_on(base), MAPS[:1]), image=image, mask=mask)
    kept = base.encode_images([image])
    assert torch.equal(generated[0][..., :3], kept[..., :3])
    assert not torch.isclose(generated[0][..., 3:], kept[..., 3:]).all(dim=1).any()


def test_one_map_per_image_gives_the_same_as_one_image_at_a_time(base) -> None:
    net = net_on(base)
    together = images(base, mq.Control(net, MAPS), count=2)
    for row in range(2):
        alone = images(base, mq.Control(net, MAPS[row : row + 1]), seed=row)
        assert np.abs(together[row] - alone[0]).max() <= 1


class KilledError(Exception):
    """Ends a training run in the middle of a step."""


@pytest.mark.parametrize("base", ["sd15", "sdxl", "sd3", "qwen", "zimage", "toy"], indirect=True)
def test_trained_killed_resumed_saved_and_loaded(base, tmp_path, monkeypatch) -> None:
    write_pairs(tmp_path / "pairs")

    def train(name: str, **changes) -> Path:
        settings = {
            "condition": "rings", "data": tmp_path / "pairs", "output": tmp_path / name, "size": 64, "max_steps": 20,
            "batch_size": 2, "evaluate_every": 0, "checkpoint_every": 8, "warmup": 1, "precision": "float32",
            "cache_folder": tmp_path / "cache", "learning_rate": 1e-3, "prompt_drop": 0.5,
        }  # fmt: skip
        return mq.train(mq.TrainingConfig(**{**settings, **changes}), base)

    locked = {name: value.clone() for name, value in base.backbone.network.state_dict().items()}
    whole = train("whole")
    forward, calls = ControlNet.forward, 0

    def killed(self, *args):
        nonlocal calls
        calls += 1
        if calls == 12:
            raise KilledError
        return forward(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(ControlNet, "forward", killed)
        with pytest.raises(KilledError):
            train("broken")
    again = train("broken", resume=True)
    first, second = weights(whole), weights(again)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(locked[name], value) for name, value in base.backbone.network.state_dict().items())

    save_base(base, tmp_path / "base")
    loaded = load_base(tmp_path / "base")
    net = mq.load_controlnet(again, loaded)
    assert loaded.backbone.family == base.backbone.family
    assert all(torch.equal(value, first[name]) for name, value in net.state_dict().items())
    assert torch.equal(predict(loaded, net), predict(base, mq.load_controlnet(again, base)))
    assert not torch.equal(predict(loaded, net), plain(loaded))
