"""The bundled weights: a base, the perception model, ControlNets, and their total size."""

import cv2
import numpy as np
import pytest
import torch
from maquette_diorama import WEIGHTS
from PIL import Image

import maquette as mq
from maquette.base import Defaults
from maquette.checkpoints.names import bundled
from maquette.data.diorama import CONDITIONS

NETS = [name for name in bundled() if name.startswith("diorama/")]


@pytest.fixture(scope="module")
def base() -> mq.Base:
    return mq.load_base("diorama")


def test_the_whole_package_stays_under_95_megabytes() -> None:
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 95e6


def test_the_base_is_a_small_stable_diffusion(base) -> None:
    assert base.backbone.downscale == 8
    assert [slot.downscale for slot in base.backbone.slots] == [1, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8, 8]
    assert base.noise.prediction == "v_prediction"
    assert base.defaults == Defaults(steps=20, guidance=4.0, sampler="ddim")
    assert base.size == 128


def test_the_base_is_diffusers_own_format(base) -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(WEIGHTS / "base", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(3)
    theirs = pipe("a red house", num_inference_steps=5, guidance_scale=4.0, generator=generator).images[0]
    ours = mq.generate(base, "a red house", steps=5, guidance=4.0, seed=3)[0]
    assert np.abs(np.asarray(ours, np.int16) - np.asarray(theirs, np.int16)).max() <= 1


def test_the_autoencoder_reconstructs_scenes(base) -> None:
    from maquette.evaluation.base import reconstruction

    scenes = [mq.diorama.scene(seed).image for seed in range(20_000_000, 20_000_020)]
    assert reconstruction(base, scenes).mean > 30


def test_all_six_controlnets_are_there() -> None:
    assert set(NETS) == {f"diorama/{condition}" for condition in CONDITIONS}


@pytest.mark.parametrize("name", NETS)
def test_every_bundled_controlnet_loads_and_steers(name: str, base) -> None:
    net = mq.load_controlnet(name, base)
    blank, full = (torch.full((1, 3, 128, 128), value) for value in (0.01, 1.0))  # one of zeros would warn
    images = [
        mq.generate(base, "", [mq.Control(net, condition)], steps=4, guidance=1, seed=1)[0]
        for condition in (blank, full)
    ]
    difference = np.abs(np.asarray(images[0], np.int16) - np.asarray(images[1], np.int16))
    assert difference.mean() > 3


def test_true_scenes_pass_the_score_of_shape_and_melted_ones_do_not() -> None:
    from maquette.conditions.networks.perception import PerceptionModel
    from maquette.evaluation.base import shapes

    scenes = [np.asarray(mq.diorama.scene(seed).image) for seed in range(20_000_000, 20_000_040)]
    y, x = np.mgrid[:128, :128].astype(np.float32)
    waves = x + 2 * np.sin(y / 4), y + 2 * np.sin(x / 4)
    melted = [cv2.remap(scene, *waves, cv2.INTER_LINEAR) for scene in scenes]
    eye = PerceptionModel()
    true, worse = (shapes([Image.fromarray(image) for image in images], eye) for images in (scenes, melted))
    for name, least in {"straight cubes": 0.75, "straight houses": 0.65, "round balls": 0.85}.items():
        assert least < true[name].mean and worse[name].mean < true[name].mean - 0.1
