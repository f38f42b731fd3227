"""The six bundled ControlNets follow their conditions: without a prompt, on scenes that no training saw."""

import numpy as np
import pytest
import torch

import maquette as mq
from maquette.conditions.networks.perception import PerceptionModel
from maquette.diorama import dataset
from maquette.evaluation.controlnet import unseen_scenes
from maquette.foundation.pixels import to_unit

SCENES, STEPS = 20, 6

LEAST = {"canny": 0.0, "scribble": 0.0, "segmentation": 0.0, "depth": 0.0, "normal": 0.0, "pose": 0.0}
"""Below what was measured, and above the score of the same images without control."""

FEW = ("canny", "depth")
CASES = [
    pytest.param(condition, marks=() if condition in FEW else pytest.mark.slow, id=condition) for condition in LEAST
]


@pytest.fixture(scope="module")
def base() -> mq.Base:
    return mq.load_base("diorama")


@pytest.fixture(scope="module")
def uncontrolled(base) -> list:
    return mq.generate(base, [""] * SCENES, steps=STEPS, guidance=1, batch_size=SCENES, size=(128, 128))


@pytest.mark.parametrize("condition", CASES)
def test_a_bundled_controlnet_follows_its_condition(condition, base, uncontrolled, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dataset, "SHARD", SCENES)
    scenes = unseen_scenes(condition, SCENES, PerceptionModel())
    maps = torch.stack([to_unit(image) for image in scenes.maps])
    control = mq.Control(mq.load_controlnet(f"diorama/{condition}", base), maps)
    images = mq.generate(base, [""] * SCENES, [control], steps=STEPS, guidance=1, batch_size=SCENES)
    followed, ignored = (float(np.nanmean(scenes.score(found))) for found in (images, uncontrolled))
    print(condition, followed, ignored)
    assert ignored < LEAST[condition] < followed
