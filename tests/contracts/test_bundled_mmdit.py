"""The bundled transformer: a base in the shape of Stable Diffusion 3, its ControlNets, and their total size."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from maquette_diorama_mmdit import WEIGHTS

import maquette as mq
from maquette.base import Defaults
from maquette.checkpoints.names import bundled
from maquette.cli.generation.controls import ControlRequest
from maquette.errors import MaquetteError, MaquetteWarning

NETS = [name for name in bundled() if name.startswith("diorama-mmdit/")]


@pytest.fixture(scope="module")
def base() -> mq.Base:
    return mq.load_base("diorama-mmdit", "cpu", "float32")


def test_the_whole_package_stays_under_95_megabytes() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) < 95e6


def test_it_is_a_small_stable_diffusion_3(base) -> None:
    assert base.backbone.family == "stable-diffusion-3"
    assert [(slot.channels, slot.downscale) for slot in base.backbone.slots] == [(224, 1)] * 7
    assert base.noise.prediction == "flow"
    assert base.defaults == Defaults(steps=20, guidance=4.0, sampler="euler")
    assert base.size == 128


def test_pictures_and_prompts_are_coded_as_the_first_base_codes_them(base) -> None:
    """So that cached latents, the tiny decoder and the list of words are of both."""
    first = mq.load_base("diorama", "cpu", "float32")
    scenes = [mq.diorama.scene(seed).image for seed in (20_000_000, 20_000_001)]
    assert torch.equal(base.encode_images(scenes), first.encode_images(scenes))
    words = [loaded.text.text_encoders[0].tokenizer.get_vocab() for loaded in (base, first)]
    assert words[0] == words[1]
    assert base.tiny_decoder is not None
    with pytest.warns(MaquetteWarning, match="unknown here: giraffe"):
        mq.generate(base, "a giraffe", steps=1)


def test_it_is_diffusers_own_format(base) -> None:
    pipe = StableDiffusion3Pipeline.from_pretrained(
        WEIGHTS / "base", text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 4, "guidance_scale": 4.0, "max_sequence_length": 0}
    theirs = pipe("a red house", generator=torch.Generator().manual_seed(3), **settings).images[0]
    ours = mq.generate(base, "a red house", steps=4, seed=3)[0]
    assert np.abs(np.asarray(ours, np.int16) - np.asarray(theirs, np.int16)).max() <= 1


def test_a_condition_names_its_controlnet_with_or_without_its_world() -> None:
    for written in ("depth", "diorama/depth"):
        assert ControlRequest(written).net_name("diorama-mmdit") == "diorama-mmdit/depth"


@pytest.mark.parametrize("name", NETS)
def test_every_bundled_controlnet_steers_it_and_not_the_first_base(name: str, base) -> None:
    net = mq.load_controlnet(name, base)
    assert net.contract.base == "diorama-mmdit"
    blank, full = (torch.full((1, 3, 128, 128), value) for value in (0.01, 1.0))  # one of zeros would warn
    images = [
        mq.generate(base, "", [mq.Control(net, condition)], steps=4, guidance=1, seed=1)[0]
        for condition in (blank, full)
    ]
    difference = np.abs(np.asarray(images[0], np.int16) - np.asarray(images[1], np.int16))
    assert difference.mean() > 3
    with pytest.raises(MaquetteError, match="a transformer"):
        mq.load_controlnet(name, mq.load_base("diorama", "cpu"))
