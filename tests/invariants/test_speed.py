"""Approximate speed: neutral parts change no bit, others run what they say and no more, and records repeat them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from tests.conftest import randomise, tiny_base
from tests.tiny_sd3 import tiny_sd3

import maquette as mq
from maquette.backbones.reuse import is_key
from maquette.backbones.tiny_decoder import TinyDecoder
from maquette.base import Base
from maquette.checkpoints.save import save_base
from maquette.checkpoints.tiny_decoder import save_tiny_decoder
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.sampling.metadata import record_of

MAP = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def base(request) -> Base:
    base = tiny_base(request.param)
    torch.manual_seed(3)
    base.tiny_decoder = TinyDecoder.build(base.backbone.latent_channels, 8, (1, 1, 1, 1)).requires_grad_(False)
    base.tiny_decoder.name = "given"
    return base


@pytest.fixture(scope="module")
def control(base) -> mq.Control:
    return mq.Control(randomise(mq.ControlNet.attach(base)), MAP)


def images(base: Base, *controls: mq.Control, **settings) -> list[Image.Image]:
    settings = {"steps": 6, "guidance": 3.0, "seed": 5, "size": (64, 64), **settings}
    return mq.generate(base, "a", controls, **settings)


def run(base: Base, *controls: mq.Control, **settings) -> np.ndarray:
    return np.stack([np.asarray(image, np.int16) for image in images(base, *controls, **settings)])


@pytest.fixture
def rows(base, control):
    """Rows that each half of the U-Net and the ControlNet ran on, by part, in order."""
    seen: dict[str, list[int]] = {"encoder": [], "decoder": [], "control": []}
    unet = base.backbone.unet
    modules = {"encoder": unet.conv_in, "decoder": unet.conv_out, "control": control.net.trainable_copy}
    handles = [
        module.register_forward_hook(lambda module, given, _, part=part: seen[part].append(len(given[0])))
        for part, module in modules.items()
    ]
    yield seen
    for handle in handles:
        handle.remove()


NEUTRAL = [{"speed": "exact"}, {"guidance_interval": (0, 1)}, {"reuse": 1}, {"decoder": "full"}]


@pytest.mark.parametrize("settings", NEUTRAL, ids=str)
def test_a_neutral_part_changes_no_bit(base, control, settings) -> None:
    assert np.array_equal(run(base, control, count=2, **settings), run(base, control, count=2))
    (image,) = images(base, control, **settings)
    assert record_of(image).settings == record_of(images(base, control)[0]).settings


@pytest.mark.filterwarnings("ignore:Reuse has no effect")
def test_without_steps_between_nothing_is_reused(base, control) -> None:
    """Every step a key step: the path through what is kept computes what the plain one does."""
    assert np.array_equal(run(base, control, steps=2, reuse=9, count=2), run(base, control, steps=2, count=2))


@pytest.mark.parametrize(
    ("reuse", "keys"), [(1, [0, 1, 2, 3, 4, 5, 6, 7]), (2, [0, 1, 3, 5, 7]), (3, [0, 1, 4, 7]), (10, [0, 1])]
)
def test_key_steps(reuse, keys) -> None:
    assert [step for step in range(8) if is_key(step, reuse)] == keys


def test_reuse_runs_encoder_and_controlnet_at_key_steps_alone(base, control, rows) -> None:
    reused = run(base, control, reuse=2)
    assert (rows["encoder"], rows["control"], rows["decoder"]) == ([2] * 4, [2] * 4, [2] * 6)
    assert (reused != run(base, control)).any()


def test_outside_the_interval_one_branch_runs(base, control, rows) -> None:
    guided = run(base, control, guidance_interval=(0.3, 0.7))
    assert rows["encoder"] == rows["control"] == rows["decoder"] == [1, 1, 2, 2, 1, 1]
    assert (guided != run(base, control)).any()


def test_reuse_in_an_interval_runs_where_a_branch_is_new(base, control, rows) -> None:
    run(base, control, guidance_interval=(0.5, 1), reuse=10)
    assert rows["encoder"] == rows["control"] == [1, 1, 2]
    assert rows["decoder"] == [1, 1, 1, 2, 2, 2]


def test_no_guidance_in_any_step_is_a_guidance_of_1(base, control) -> None:
    with pytest.warns(MaquetteWarning, match="none of the 6 steps lies between 0.5 and 0.55"):
        unguided = run(base, control, guidance_interval=(0.5, 0.55))
    assert np.array_equal(unguided, run(base, control, guidance=1))


def test_an_interval_is_a_change_of_scale(base, control) -> None:
    """Guidance of 1 outside of the interval, computed with both branches, gives the same up to rounding."""

    def guidance(unconditional, conditional, step):
        return conditional if step.index < 3 else unconditional + 3.0 * (conditional - unconditional)

    slow = run(base, control, guidance=guidance, record=False)
    assert np.abs(run(base, control, guidance_interval=(0.5, 1)) - slow).max() <= 1


def test_weights_of_a_control_hold_at_every_step(base, control) -> None:
    """What is reused is weighted anew: a control that ends stops where it would, also between key steps."""
    ended = mq.Control(control.net, MAP, end=0.5)
    residuals = []
    run(base, ended, reuse=4, callback=lambda step: residuals.append((step.residuals, step.prediction)))
    assert [found is not None for found, _ in residuals] == [True, True, True, False, False, False]
    curve = mq.Control(control.net, MAP, curve=[(0, 1), (1, 0)])
    found = []
    run(base, curve, reuse=4, callback=lambda step: found.append(step.residuals[0]))
    assert torch.allclose(found[2] / curve.factors(1, 2, 6)[0], found[1] / curve.factors(1, 1, 6)[0], atol=1e-5)


@pytest.mark.parametrize("settings", [{"reuse": 2}, {"guidance_interval": (0.2, 0.7), "reuse": 3}, {"speed": "draft"}])
def test_same_seed_same_image_in_any_batch(base, control, settings) -> None:
    together = run(base, control, count=3, batch_size=3, **settings)
    apart = run(base, control, count=3, batch_size=1, **settings)
    assert np.abs(together - apart).max() <= 1
    assert np.array_equal(apart[2:], run(base, control, seed=7, batch_size=1, **settings))


def test_drift_is_what_the_steps_between_missed(base, control) -> None:
    found, features = [], []

    def look(step) -> None:
        features.append(step.residuals)
        assert step.prediction is not None
        found.append(step.drift)

    run(base, control, reuse=4, callback=look)
    assert found[0] == {}
    assert found[1].keys() == {"encoder", "control 1"}
    assert found[2] == found[1]
    new, old = features[1], features[0]
    moved = sum(float((a - b).square().sum()) for a, b in zip(new, old, strict=True))
    assert found[1]["control 1"] == pytest.approx((moved / sum(float(a.square().sum()) for a in new)) ** 0.5, rel=1e-4)
    seen = []
    run(base, control, callback=lambda step: seen.append(step.drift))
    assert seen == [{}] * 6, "without reuse nothing is missed"


def test_a_speed_is_its_parts(base, control) -> None:
    (image,) = images(base, control, steps=None, speed="draft")
    settings = record_of(image).settings
    assert settings["steps"] < base.defaults.steps
    assert settings["decoder"] == "tiny"
    assert "speed" not in settings
    parts = {name: settings[name] for name in ("steps", "sampler", "guidance_interval", "reuse") if name in settings}
    (again,) = images(base, control, **parts, decoder="tiny")
    assert np.array_equal(np.asarray(again), np.asarray(image))
    assert record_of(again) == record_of(image)
    base.tiny_decoder.name = None
    assert "decoder" not in record_of(images(base, steps=None, speed="draft")[0]).settings, "its own is for previews"
    base.tiny_decoder.name = "given"
    (own,) = images(base, control, steps=3, sampler="euler", decoder="full", speed="draft")
    assert {"steps": 3, "sampler": "euler"}.items() <= record_of(own).settings.items()
    assert "decoder" not in record_of(own).settings


WRONG = [
    ({"speed": "fast"}, "no speed 'fast'.*exact, balanced, draft"),
    ({"guidance_interval": (0.7, 0.2)}, r"0 <= start < end <= 1, not \(0.7, 0.2\)"),
    ({"guidance_interval": (0.2, 1.5)}, "0 <= start < end <= 1"),
    ({"guidance_interval": 0.5}, "not 0.5"),
    ({"reuse": 0}, "reuse is a whole number from 1 to 10, not 0"),
    ({"reuse": 2.5}, "reuse is a whole number"),
    ({"decoder": "small"}, "no decoder 'small'"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG, ids=str)
def test_what_cannot_be_is_told(base, settings, message) -> None:
    with pytest.raises(MaquetteError, match=message):
        run(base, **settings)


IDLE = [
    ({"guidance": 1, "guidance_interval": (0.2, 0.8)}, "Guidance_interval has no effect at a guidance of 1"),
    ({"steps": 2, "reuse": 2}, "Reuse has no effect in 2 steps"),
    ({"decoder": "tiny", "returns": "latents"}, "no effect on latents"),
    (
        {"speed": "draft", "sampler": "ddim", "guidance_interval": (0, 1), "reuse": 1, "decoder": "full"},
        "speed='draft' has no effect",
    ),
]


@pytest.mark.parametrize(("settings", "message"), IDLE, ids=str)
def test_what_has_no_effect_is_told(base, settings, message) -> None:
    with pytest.warns(MaquetteWarning, match=message):
        images(base, **settings)


def test_a_transformer_refuses_reuse_and_takes_of_a_preset_what_it_can() -> None:
    base = tiny_sd3()
    with pytest.raises(MaquetteError, match="no encoder that steps could share"):
        run(base, reuse=2)
    with pytest.raises(MaquetteError, match="has no tiny decoder"):
        run(base, decoder="tiny")
    settings = record_of(images(base, steps=None, speed="draft")[0]).settings
    assert settings["sampler"] == base.defaults.sampler
    assert settings["steps"] < base.defaults.steps
    assert not settings.keys() & {"reuse", "decoder"}


def published(folder: Path, **settings) -> AutoencoderTiny:
    """A folder as those of TAESD are published."""
    torch.manual_seed(1)
    widths = {"encoder_block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (8, 8, 8, 8)}
    tiny = AutoencoderTiny(**widths, **settings)
    tiny.save_pretrained(folder)
    return tiny


def test_a_published_tiny_decoder_decodes_as_in_diffusers(tmp_path) -> None:
    theirs, base = published(tmp_path), tiny_base("sd15")
    ours = mq.load_tiny_decoder(base, tmp_path)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.equal(ours(latents), theirs.decode(latents).sample)
    image = images(base, decoder="tiny", steps=2)[0]
    record = record_of(image)
    assert record.tiny_decoder == str(tmp_path)
    assert record.decoder_hash is not None
    shown: list[tuple[int, int]] = []
    images(base, steps=2, callback=lambda step: shown.append(step.preview()[0].size))
    assert Counter(shown) == {(64, 64): 2}, "previews are those of the tiny decoder"


def test_a_tiny_decoder_of_another_family_is_refused(tmp_path) -> None:
    published(tmp_path, latent_channels=16)
    with pytest.raises(MaquetteError, match=r"16 channels.*has 4 and 8"):
        mq.load_tiny_decoder(tiny_base("sd15"), tmp_path)
    with pytest.raises(MaquetteError, match="no tiny decoder in"):
        mq.load_tiny_decoder(tiny_base("sd15"), tmp_path / "nothing")


def test_a_base_keeps_its_tiny_decoder(tmp_path, base) -> None:
    before = base.hash()
    save_base(base, tmp_path / "base")
    loaded = mq.load_base(tmp_path / "base", "cpu", "float32")
    assert loaded.tiny_decoder is not None
    assert loaded.tiny_decoder.name is None
    latents = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        assert torch.allclose(loaded.tiny_decoder(latents), base.tiny_decoder(latents), atol=2e-3)
    loaded.tiny_decoder = None
    assert loaded.hash() == before, "a record of before knows the base again"
    save_tiny_decoder(base.tiny_decoder, tmp_path / "alone")
    assert mq.load_tiny_decoder(loaded, tmp_path / "alone").name == str(tmp_path / "alone")


def test_the_bundled_tiny_decoder_is_of_the_bundled_latents() -> None:
    """Near the 28.9 dB that it was trained to: on latents of another training it would be far off."""
    base = mq.load_base("diorama", "cpu", "float32")
    scenes = [mq.diorama.scene(20_000_000 + number).image for number in range(4)]
    latents, truth = base.encode_images(scenes), np.stack([np.asarray(one, float) for one in scenes])

    made = np.stack([np.asarray(one, float) for one in base.decode_latents(latents, tiny=True)])
    assert -10 * np.log10(np.square((made - truth) / 255).mean()) > 27
