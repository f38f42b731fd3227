"""What a generation shows and lets change: callbacks, previews, latents, own guidance and own samplers."""

import inspect
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tests.conftest import randomise, tiny_base

import maquette as mq
from maquette.base import Base
from maquette.errors import MaquetteError
from maquette.foundation.pixels import to_signed
from maquette.foundation.seeds import generators, noise
from maquette.noise.process import Sampler
from maquette.noise.samplers import SAMPLERS
from maquette.sampling.metadata import Record, record_of
from maquette.sampling.step import Previews, Step

MAP = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def base() -> Base:
    return tiny_base("sd15")


@pytest.fixture(scope="module")
def control(base) -> mq.Control:
    return mq.Control(randomise(mq.ControlNet.attach(base)), MAP)


def run(base: Base, *controls, **settings) -> np.ndarray:
    settings = {"steps": 4, "guidance": 3.0, "seed": 5, "size": (64, 64), **settings}
    return np.stack([np.asarray(image) for image in mq.generate(base, "a", controls, **settings)])


@pytest.mark.parametrize("sampler", ["ddim", "euler", "heun"])
def test_watching_changes_nothing(base, control, sampler) -> None:
    seen: list[Step] = []

    def watch(step: Step) -> None:
        assert step.prediction.shape == step.latents.shape == step.denoised.shape
        step.preview()
        step.preview(decoded=True)
        seen.append(step)

    plain = run(base, control, count=3, batch_size=2, sampler=sampler)
    assert np.array_equal(run(base, control, count=3, batch_size=2, sampler=sampler, callback=watch), plain)
    runs = [0, 1, 2, 3] if sampler != "heun" else [0, 0, 1, 1, 2, 2, 3]
    assert [step.index for step in seen] == runs * 2
    assert {(step.steps, step.images) for step in seen} == {(4, range(2)), (4, range(2, 3))}
    times = [float(step.time) for step in seen[: len(runs)]]
    assert times == sorted(times, reverse=True)
    assert {len(step.residuals) for step in seen} == {13}
    assert seen[0].residuals[0].shape == (4, 16, 8, 8)


def test_previews_leave_pixels_and_record_as_they_are(base) -> None:
    def made(callback=None) -> tuple[bytes, Record]:
        (image,) = mq.generate(base, "a", steps=3, seed=5, size=(64, 64), callback=callback)
        return image.tobytes(), record_of(image)

    shown: list[Image.Image] = []
    assert made(Previews(shown.extend, pause=0)) == made() and len(shown) == 3
    assert made(lambda step: None)[1].unrecorded == ["the callback"]


def test_each_part_can_be_assigned(base, control) -> None:
    def drop_control(step: Step) -> None:
        assert step.prediction is step.prediction  # computed once
        step.residuals = None  # so the prediction is computed anew

    assert np.array_equal(run(base, control, callback=drop_control), run(base))

    def other_start(step: Step) -> None:
        if step.index == 0:
            step.latents = noise(generators([5]), (4, 8, 8))

    assert np.array_equal(run(base, control, seed=8, callback=other_start), run(base, control))

    def unguided(step: Step) -> None:
        step.prediction = base.predict(step.latents, step.time, base.encode_text(["a"], (64, 64)))

    assert np.abs(run(base, callback=unguided).astype(int) - run(base, guidance=1.0)).max() <= 1

    def predict_zeros(step: Step) -> None:
        step.prediction = torch.zeros_like(step.latents)
        assert step.residuals is not None  # reading does not drop what was assigned
        assert not step.prediction.any()

    run(base, control, callback=predict_zeros)

    def weaker(step: Step) -> None:
        step.residuals = step.residuals.scaled(0.5)

    half = mq.Control(control.net, MAP, weight=0.5)
    assert np.array_equal(run(base, control, callback=weaker), run(base, half))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_latents_that_a_true_prediction_points_to_are_the_image_s(sampler, prediction, monkeypatch) -> None:
    base, seen = tiny_base("sd15", prediction), []
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    (generator,) = generators([5])
    x0, truth = base.encode_images([image], [generator]), noise([generator], (4, 8, 8))

    def predict(latents, time, *args) -> torch.Tensor:
        return base.noise.target(x0, truth, time.round().long().expand(1))

    monkeypatch.setattr(base, "predict", predict)
    mq.generate(base, "a", image=image, guidance=1, steps=8, seed=5, size=(64, 64), sampler=sampler, strength=0.9,
                callback=seen.append)  # fmt: skip
    assert (seen[0].denoised - x0).abs().max() < 0.05


@pytest.mark.parametrize(("decoded", "cell"), [(False, 8), (None, 1)])
def test_the_preview_shows_what_the_decoder_makes(decoded, cell) -> None:
    """The colours of cells by one linear map, all pixels by the tiny decoder: to a tenth of the range from -1 to 1."""
    base = mq.load_base("diorama")
    seen = []
    (image,) = mq.generate(base, "a red house", steps=4, callback=lambda step: seen.append(step.preview(decoded)[0]))
    small = F.avg_pool2d(to_signed(image)[None], cell)[0]
    assert seen[-1].size == (128 // cell, 128 // cell)
    errors = [float((to_signed(preview) - small).square().mean().sqrt()) for preview in seen]
    assert errors[-1] < 0.25 < float(small.std())
    assert errors[-1] < errors[0]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_latents_decode_to_the_images(base, control, batch_size) -> None:
    latents = mq.generate(base, "a", control, returns="latents", count=3, batch_size=batch_size, steps=2, seed=5,
                          guidance=3.0, size=(64, 64))  # fmt: skip
    assert latents.shape == (3, 4, 8, 8) and latents.dtype == torch.float32
    decoded = [np.asarray(base.decode_latents(part)) for part in latents.split(batch_size)]
    assert np.array_equal(np.concatenate(decoded), run(base, control, count=3, batch_size=batch_size, steps=2))


def test_own_guidance(base, control) -> None:
    seen = []

    def guidance(unconditional, conditional, step: Step) -> torch.Tensor:
        seen.append((step.index, unconditional.shape, step.latents.shape))
        return unconditional + 3.0 * (conditional - unconditional)

    assert np.array_equal(run(base, control, guidance=guidance), run(base, control))
    assert seen == [(index, (1, 4, 8, 8), (1, 4, 8, 8)) for index in range(4)]

    def in_the_first_half(unconditional, conditional, step: Step) -> torch.Tensor:
        return unconditional + (5.0 if step.index < 2 else 1.0) * (conditional - unconditional)

    assert not np.array_equal(run(base, control, guidance=in_the_first_half), run(base, control))


class OwnDDIM:
    """DDIM by its formula (Song et al. 2021, eq. 12, η = 0), for a base that predicts the noise."""

    order = 1

    def __init__(self, base: Base, steps: int) -> None:
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        self.alphas, self.gap, self.steps = (1 - betas).cumprod(0), 1000 // steps, steps
        self.times = torch.arange(steps - 1, -1, -1) * self.gap + 1

    def start(self, noise, x0=None):
        assert x0 is None
        return noise

    def noised(self, x0, noise, run):
        raise AssertionError("there is no mask")

    def scale(self, x, time):
        return x

    def step(self, prediction, time, x, generators=None):
        now, then = self.alphas[time], self.alphas[max(int(time) - self.gap, 0)]
        x0 = (x - (1 - now).sqrt() * prediction) / now.sqrt()
        return then.sqrt() * x0 + (1 - then).sqrt() * prediction


def test_an_own_sampler(base, control) -> None:
    asked = []

    def factory(steps: int, tokens: int, strength: float, device: torch.device) -> Sampler:
        asked.append((steps, tokens, strength, device))
        return OwnDDIM(base, steps)

    ours = run(base, control, sampler=factory, count=2, batch_size=1)
    assert asked == [(4, 1, 1.0, torch.device("cpu"))] * 2
    assert np.abs(ours.astype(int) - run(base, control, sampler="ddim", count=2, batch_size=1)).max() <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": 3}, "no sampler 3"),
        ({"returns": "latent"}, "did you mean 'latents'"),
        ({"guidance": "strong"}, "not 'strong'"),
    ],
)
def test_anything_else_is_refused(base, settings, message) -> None:
    with pytest.raises(MaquetteError, match=message):
        run(base, **settings)


def test_help_says_what_every_argument_means() -> None:
    text = inspect.getdoc(mq.generate)
    described = re.search(r"Args:\n(.*?)\n\nRaises", text, re.DOTALL)[1]
    named = [name for names in re.findall(r"^    ([\w, ]+):", described, re.MULTILINE) for name in names.split(", ")]
    assert named == list(inspect.signature(mq.generate).parameters)
    control = list(inspect.signature(mq.Control).parameters)
    assert all(re.search(rf"^    .*\b{name}\b.*:", inspect.getdoc(mq.Control), re.MULTILINE) for name in control)
