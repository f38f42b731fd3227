"""A flow-matching base samples, inpaints and trains as a DDPM base does, with the same code."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import randomise, tiny_base

import maquette as mq
from maquette.base import Base, Defaults
from maquette.diorama import dataset
from maquette.errors import MaquetteError
from maquette.foundation.seeds import generators, noise
from maquette.noise.config import noise_process
from maquette.training import checkpoint

STATIC = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
DYNAMIC = {**STATIC, "use_dynamic_shifting": True}


def flow_base(config: dict, **more) -> Base:
    base = tiny_base("diorama", **more)
    base.noise = noise_process(config)
    base.defaults = Defaults(steps=4, guidance=3.0, sampler="euler")
    return base


@pytest.fixture
def start() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize("config", [STATIC, DYNAMIC])
@pytest.mark.parametrize("sampler", ["euler", "heun"])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_with_the_true_velocity_the_start_image_comes_back(config, sampler, strength, start, monkeypatch) -> None:
    base = flow_base(config)
    (generator,) = generators([5])
    latents = base.encode_images([start], [generator])  # sampled before the noise, with the same generator
    truth = noise([generator], (8, 8, 8)) - latents
    monkeypatch.setattr(base, "predict", lambda latents, *args: truth.expand_as(latents))
    found = []
    monkeypatch.setattr(base, "decode_latents", lambda latents, *_: found.append(latents) or [start])
    seen = []
    mq.generate(base, "a", image=start, strength=strength, guidance=1, seed=5, size=(64, 64), sampler=sampler,
                callback=seen.append)  # fmt: skip
    assert (found[0] - latents).abs().max() < 1e-4
    assert all((step.denoised - latents).abs().max() < 1e-4 for step in seen)


def test_latents_are_kept_from_one_cell_beyond_the_mask(start) -> None:
    base = flow_base(STATIC)
    found = []
    decode = base.decode_latents
    base.decode_latents = lambda latents, *more: found.append(latents) or decode(latents, *more)
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 64, 32))
    mq.generate(base, "a", image=start, mask=mask, size=(64, 64))
    kept = base.encode_images([start])
    assert torch.equal(found[0][:, :, 5:], kept[:, :, 5:])
    assert not torch.allclose(found[0][:, :, :5], kept[:, :, :5], atol=0.1)


def test_the_defaults_of_the_base_are_used() -> None:
    base = flow_base(DYNAMIC)
    net = randomise(mq.ControlNet.attach(base))
    control = [mq.Control(net, torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))]
    default = mq.generate(base, "a", control, seed=1)
    explicit = mq.generate(base, "a", control, seed=1, steps=4, guidance=3.0, sampler="euler")
    other = mq.generate(base, "a", control, seed=1, guidance=1.0)
    assert np.array_equal(default[0], explicit[0])
    assert not np.array_equal(default[0], other[0])
    with pytest.raises(MaquetteError, match=r"base 'tiny-diorama': There is no sampler 'ddim'.* Known: euler, heun"):
        mq.generate(base, "a", sampler="ddim")


@pytest.mark.parametrize("config", [STATIC, DYNAMIC])
def test_a_resumed_run_equals_an_unbroken_one(config, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(dataset, "SHARD", 8)
    monkeypatch.chdir(tmp_path)
    settings = {
        "condition": "canny", "scenes": 8, "batch_size": 4, "evaluate_every": 0, "precision": "float32", "workers": 0,
        "min_snr": 5.0, "checkpoint_every": 2,
    }  # fmt: skip

    def train(output: str, steps: int, **more) -> torch.Tensor:
        base = flow_base(config, context=96)
        mq.train(mq.TrainingConfig(**settings, output=tmp_path / output, max_steps=steps, **more), base)
        return checkpoint.last(tmp_path / output)["net"]

    whole = train("whole", 4)
    train("parts", 2)
    parts = train("parts", 4, resume=True)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert whole["zero_convs.12.weight"].any()
