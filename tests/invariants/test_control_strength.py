"""Weights by slot, step, region and branch against slow explicit loops, in float64."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import randomise, tiny_base

import maquette as mq
from maquette.base import Base
from maquette.controlnet.contract import Contract
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.sampling.step import Step

SIZE, STEPS, SLOTS = (64, 64), 5, 13
MAPS = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
LEFT = np.zeros((64, 64), np.uint8)
LEFT[:, :24] = 255
SOFT = np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)
LIST = [0.1 * slot for slot in range(SLOTS)]


@pytest.fixture(scope="module")
def base() -> Base:
    base = tiny_base("sd15")
    for module in (base.backbone.network, base.autoencoder, base.text.text_encoders[0].encoder):
        module.double()
    return base


@pytest.fixture(scope="module")
def nets(base) -> list[mq.ControlNet]:
    return [randomise(mq.ControlNet.attach(base), seed) for seed in (1, 2)]


def steps_of(base: Base, controls, **settings) -> list[Step]:
    seen: list[Step] = []
    mq.generate(
        base, "a", controls, **{"steps": STEPS, "guidance": 3.0, "size": SIZE, "callback": seen.append, **settings}
    )
    return seen


def curve_by_hand(points, at: float) -> float:
    return float(np.interp(at, [x for x, _ in points], [y for _, y in points]))


def slowly(base: Base, controls, step: Step, condition_in: str = "both") -> list[torch.Tensor | None]:
    """The residuals of a step: one cell of one slot of one control after the other."""
    text = torch.cat([base.encode_text([prompt], SIZE).hidden_states for prompt in ("", "a")])
    x = step.latents.double()
    total: list[torch.Tensor | None] = [None] * SLOTS
    for control in controls:
        features = control.net.encode(MAPS[:1] if torch.equal(control.condition, MAPS[:1]) else MAPS[1:])
        for branch in (0, 1):
            branches = "conditional" if control.balance == "control" else control.branch or condition_in
            if branch == 0 and (branches != "both" or (control.net.contract.pooled and control.branch is None)):
                continue
            with torch.no_grad():
                residuals = control.net(x, step.time, text[branch : branch + 1], features)
            for slot in range(SLOTS):
                weight = control.weight[slot] if isinstance(control.weight, list) else control.weight
                if control.balance == "prompt":
                    weight *= 0.825 ** (12 - slot)
                if isinstance(control.curve, list):
                    weight *= curve_by_hand(control.curve, step.index / STEPS)
                elif control.curve:
                    weight *= control.curve(step.index / STEPS)
                if condition_in == "weighted":
                    weight *= base.backbone.slots[slot].downscale / 8
                side = 8 // base.backbone.slots[slot].downscale
                if total[slot] is None:
                    total[slot] = torch.zeros(2, residuals[slot].shape[1], side, side, dtype=torch.float64)
                pixels = 64 // side
                for y in range(side):
                    for x_ in range(side):
                        share = 1.0
                        if control.mask is not None:
                            block = control.mask[y * pixels : (y + 1) * pixels, x_ * pixels : (x_ + 1) * pixels]
                            share = block.astype(np.float64).mean() / 255
                        at = (0, 0) if control.net.contract.pooled else (y, x_)
                        total[slot][branch, :, y, x_] += weight * share * residuals[slot][0, :, at[0], at[1]]
    return total


SETTINGS = {
    "plain": [{}],
    "slots": [{"weight": LIST}],
    "prompt": [{"balance": "prompt", "weight": 1.3}],
    "control": [{"balance": "control"}],
    "curve": [{"curve": [(0.1, 0.0), (0.5, 2.0), (1.0, 0.5)]}],
    "function": [{"curve": lambda done: (1 - done) ** 2}],
    "region": [{"mask": LEFT}],
    "branch": [{"branch": "conditional"}],
    "all": [{"weight": LIST, "balance": "prompt", "curve": [(0, 2), (1, 0)], "mask": SOFT, "branch": "conditional"}],
    "two regions that contradict": [{"mask": LEFT, "weight": 0.7}, {"mask": SOFT, "weight": LIST}],
    "two branches": [{"branch": "both"}, {"branch": "conditional", "mask": SOFT}],
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("condition_in", ["both", "weighted"])
def test_residuals_are_those_of_slow_loops(base, nets, name, condition_in) -> None:
    controls = [mq.Control(nets[n], MAPS[n : n + 1], **how) for n, how in enumerate(SETTINGS[name])]
    for step in steps_of(base, controls, condition_in=condition_in)[1:4:2]:
        expected = slowly(base, controls, step, condition_in)
        for ours, theirs in zip(step.residuals, expected, strict=True):
            assert ours.dtype == torch.float64
            assert torch.allclose(ours.expand_as(theirs), theirs, atol=1e-6)


def test_a_pooled_net_brings_its_style_into_a_region(base, nets, monkeypatch) -> None:
    """Its mean over the image, times the mask: pooling comes first, so the region's edge is kept."""
    monkeypatch.setattr(nets[0], "contract", Contract(pooled=True))
    control = mq.Control(nets[0], MAPS[:1], mask=LEFT)
    step = steps_of(base, [control])[0]
    for ours, theirs in zip(step.residuals, slowly(base, [control], step), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert not step.residuals[0][:, :, :, 3:].any() and step.residuals[0][1, :, :, :3].any()
    both = mq.Control(nets[0], MAPS[:1], branch="both")
    assert steps_of(base, [both])[0].residuals[0][0].any()


def test_where_a_curve_is_0_the_net_is_not_run(base, nets, monkeypatch) -> None:
    ran, forward = [], mq.ControlNet.forward
    monkeypatch.setattr(mq.ControlNet, "forward", lambda self, *args: ran.append(1) or forward(self, *args))
    steps_of(base, [mq.Control(nets[0], MAPS[:1], curve=lambda done: float(done >= 0.6))])
    assert len(ran) == 2
    steps = steps_of(base, [mq.Control(nets[0], MAPS[:1], curve=[(0.2, 0), (0.4, 1)])])
    assert len(ran) == 2 + 3
    assert [step.residuals is None for step in steps] == [True, True, False, False, False]


def test_neutral_settings_change_no_bit(base, nets) -> None:
    def image(**how) -> np.ndarray:
        control = mq.Control(nets[0], MAPS[:1], **{"weight": 0.8, **how})
        return np.asarray(mq.generate(base, "a", [control], steps=3, guidance=3.0, size=SIZE)[0])

    plain = image()
    white = Image.new("L", (64, 64), 255)
    for neutral in ({"weight": [0.8] * SLOTS}, {"curve": [(0, 1)]}, {"mask": white}, {"branch": "both"}):
        assert np.array_equal(image(**neutral), plain)
    for other in ({"balance": "prompt"}, {"balance": "control"}, {"curve": [(0, 0.5)]}, {"mask": LEFT}):
        assert not np.array_equal(image(**other), plain)


def test_two_regions_of_one_control_are_the_whole(base, nets) -> None:
    whole = steps_of(base, [mq.Control(nets[0], MAPS[:1])])[0]
    halves = [mq.Control(nets[0], MAPS[:1], mask=mask) for mask in (SOFT, 255 - SOFT)]
    parts = steps_of(base, halves)[0]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole.residuals, parts.residuals, strict=True))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weight": -1}, "weight is a number from 0 to 10, .* not -1"),
        ({"weight": [1.0, -0.5]}, r"not \[1.0, -0.5\]"),
        ({"weight": "1"}, "not '1'"),
        ({"weight": float("nan")}, "not nan"),
        ({"start": "0"}, "start='0'"),
        ({"balance": "prompts"}, "did you mean 'prompt'"),
        ({"branch": "neither"}, "no branch 'neither'"),
        ({"balance": "control", "branch": "both"}, "contradicts branch='both'"),
        ({"curve": 0.5}, "is a function, or a list"),
        ({"curve": []}, "is a function, or a list"),
        ({"curve": [(0.5, 1), (0.2, 0)]}, "fractions that ascend"),
        ({"curve": [(0, 1), (1.5, 0)]}, "fractions that ascend"),
        ({"curve": [(0, -1)]}, "factors from 0 to 10"),
        ({"mask": 3}, "A mask is an image, a path or an array"),
        ({"mask": "nowhere.png"}, "no image at 'nowhere.png'"),
    ],
)
def test_settings_out_of_range_are_refused(nets, wrong, message) -> None:
    with pytest.raises(MaquetteError, match=message):
        mq.Control(nets[0], MAPS[:1], **wrong)


def test_what_only_the_base_can_tell_is_refused_with_the_control_s_number(base, nets) -> None:
    control = mq.Control(nets[0], MAPS[:1], weight=[1.0] * 12)
    with pytest.raises(MaquetteError, match=r"Control 2 of 2 has a list of 12 weights; .* has 13 slots.*give 13"):
        mq.generate(base, "a", [mq.Control(nets[0], MAPS[:1]), control], steps=1, size=SIZE)
    with pytest.raises(MaquetteError, match=r"at 0\.5 of the steps it gives -1"):
        steps_of(base, [mq.Control(nets[0], MAPS[:1], curve=lambda done: 1 if done < 0.5 else -1)], steps=2)


@pytest.mark.parametrize(
    ("how", "settings", "message"),
    [
        ({"curve": [(0, 0)]}, {}, "has no effect: its curve is 0 in all of its steps"),
        ({"mask": Image.new("L", (64, 64))}, {}, "has no effect: its mask is black everywhere"),
        ({"branch": "conditional"}, {"guidance": 1}, "there is one branch: control 1 of 1 acts as in both"),
        ({"balance": "control"}, {"guidance": 1}, "there is one branch"),
    ],
)
def test_a_setting_without_effect_warns(base, nets, how, settings, message) -> None:
    with pytest.warns(MaquetteWarning, match=message):
        steps_of(base, [mq.Control(nets[0], MAPS[:1], **how)], **settings)
