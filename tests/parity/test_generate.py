"""Whole generations equal those of diffusers' pipelines with the same seeds."""

import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    MultiControlNetModel,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLPipeline,
)
from tests.conftest import randomise, tiny_base

from maquette import diorama
from maquette.controlnet.contract import Contract
from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.foundation.pixels import to_unit
from maquette.sampling import generate as module
from maquette.sampling.generate import generate

STEPS = 20


@pytest.fixture
def final(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The latents that reach the decoder: rounding to images would hide differences."""
    seen: list[torch.Tensor] = []
    sample = module._sample

    def watch(*args, **kwargs):
        seen.append(sample(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(module, "_sample", watch)
    return seen


def pipeline(pipeline_class, base, **more):
    return pipeline_class(
        vae=base.autoencoder,
        text_encoder=base.text.text_encoders[0].encoder,
        tokenizer=base.text.text_encoders[0].tokenizer,
        unet=base.backbone.unet,
        scheduler=DDIMScheduler.from_config(base.scheduler_config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **more,
    )


def run(pipe, seeds, **more) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    prompts = {"prompt": ["a b"] * len(seeds), "negative_prompt": ["c"] * len(seeds)}
    return pipe(**prompts, **more, num_inference_steps=STEPS, generator=generators, output_type="latent").images


def published(net: ControlNet, folder) -> ControlNetModel:
    net.save(folder)
    return ControlNetModel.from_pretrained(folder)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_without_control(prediction, final) -> None:
    base = tiny_base("sd15", prediction)
    generate(base, "a b", negative_prompt="c", steps=STEPS, guidance=5.0, count=2, seed=3, size=(128, 128))
    theirs = run(pipeline(StableDiffusionPipeline, base), [3, 4], guidance_scale=5.0, height=128, width=128)
    assert torch.allclose(final[0], theirs, atol=1e-4)


@pytest.mark.parametrize("strength", [1.0, 0.72])
def test_from_a_start_image(strength, final, tmp_path) -> None:
    """The image's latents are sampled before the noise; a control's start and end count only the steps that are run."""
    base = tiny_base("sd15")
    net = randomise(ControlNet.attach(base))
    start, condition = diorama.scene(3).image, torch.rand(1, 3, 128, 128)
    control = Control(net, condition, weight=0.8, start=0.2, end=0.6)
    settings = {"negative_prompt": "c", "guidance": 5.0, "count": 2, "seed": 3, "image": start, "strength": strength}
    generate(base, "a b", [control], steps=STEPS, **settings)
    pipe = pipeline(StableDiffusionControlNetImg2ImgPipeline, base, controlnet=published(net, tmp_path))
    theirs = run(
        pipe,
        [3, 4],
        image=torch.stack([to_unit(start)] * 2),
        control_image=condition.repeat(2, 1, 1, 1),
        strength=strength,
        guidance_scale=5.0,
        controlnet_conditioning_scale=0.8,
        control_guidance_start=0.2,
        control_guidance_end=0.6,
    )
    assert torch.allclose(final[0], theirs, atol=1e-4)


@pytest.mark.parametrize("mode", ["both", "guess-like"])
def test_one_control(mode, final, tmp_path) -> None:
    base = tiny_base("sd15")
    net = randomise(ControlNet.attach(base))
    condition = torch.rand(1, 3, 128, 128)
    theirs_net = published(net, tmp_path)
    if mode == "both":
        control = Control(net, condition, weight=0.8, start=0.1, end=0.7)
        generate(base, "a b", [control], negative_prompt="c", steps=STEPS, guidance=5.0, count=2, seed=3)
    else:  # diffusers' guess mode with all weights 1 is the condition in the conditional branch alone
        control = Control(net, condition)
        generate(
            base, "a b", [control], negative_prompt="c", steps=STEPS, guidance=5.0, count=2, seed=3,
            condition_in="conditional",
        )  # fmt: skip
        flat = theirs_net.forward

        def without_weights(*args, guess_mode=False, **kwargs):
            return flat(*args, guess_mode=False, **kwargs)

        theirs_net.forward = without_weights
    theirs = run(
        pipeline(StableDiffusionControlNetPipeline, base, controlnet=theirs_net),
        [3, 4],
        image=condition,
        guidance_scale=5.0,
        guess_mode=mode != "both",
        controlnet_conditioning_scale=control.weight,
        control_guidance_start=control.start,
        control_guidance_end=control.end,
    )
    assert torch.allclose(final[0], theirs, atol=1e-4)


def test_two_controls(final, tmp_path) -> None:
    base = tiny_base("sd15")
    nets = [randomise(ControlNet.attach(base), seed) for seed in (1, 2)]
    conditions = [torch.rand(1, 3, 128, 128) for _ in nets]
    controls = [Control(nets[0], conditions[0], weight=0.6), Control(nets[1], conditions[1], weight=1.1, end=0.5)]
    generate(base, "a b", controls, negative_prompt="c", steps=STEPS, guidance=5.0, count=1, seed=3)
    multi = MultiControlNetModel([published(net, tmp_path / str(i)) for i, net in enumerate(nets)])
    theirs = run(
        pipeline(StableDiffusionControlNetPipeline, base, controlnet=multi),
        [3],
        image=conditions,
        guidance_scale=5.0,
        controlnet_conditioning_scale=[0.6, 1.1],
        control_guidance_start=[0.0, 0.0],
        control_guidance_end=[1.0, 0.5],
    )
    assert torch.allclose(final[0], theirs, atol=1e-4)


def test_a_pooled_control(final, tmp_path) -> None:
    """Shuffle: residuals averaged over the image, in the conditional branch alone."""
    base = tiny_base("sd15")
    net = randomise(ControlNet.attach(base))
    net.contract = Contract(pooled=True)
    condition = torch.rand(1, 3, 128, 128)
    generate(base, "a b", [Control(net, condition, weight=0.7)], negative_prompt="c", steps=STEPS, guidance=5.0, seed=3)
    pipe = pipeline(StableDiffusionControlNetPipeline, base, controlnet=published(net, tmp_path))
    theirs = run(pipe, [3], image=condition, guidance_scale=5.0, controlnet_conditioning_scale=0.7)
    assert torch.allclose(final[0], theirs, atol=1e-4)


def test_a_pooled_control_leaves_another_as_it_is(final) -> None:
    """Other controls are added to both branches as usual, in any order."""
    base = tiny_base("sd15")
    shuffle, canny = (randomise(ControlNet.attach(base), seed) for seed in (1, 2))
    shuffle.contract = Contract(pooled=True)
    condition = torch.rand(1, 3, 128, 128)
    plain, pooled = Control(canny, condition), Control(shuffle, condition)
    off = Control(shuffle, condition, weight=0.0)
    for controls in ([pooled, plain], [plain, pooled], [off, plain], [plain]):
        generate(base, "a b", controls, negative_prompt="c", steps=5, guidance=5.0, seed=3)
    assert torch.allclose(final[0], final[1], atol=1e-5)
    assert torch.allclose(final[2], final[3], atol=1e-5)
    assert not torch.allclose(final[0], final[3], atol=1e-3)


def xl(pipeline_class, base, **more):
    return pipeline_class(
        vae=base.autoencoder,
        text_encoder=base.text.text_encoders[0].encoder,
        tokenizer=base.text.text_encoders[0].tokenizer,
        text_encoder_2=base.text.text_encoders[1].encoder,
        tokenizer_2=base.text.text_encoders[1].tokenizer,
        unet=base.backbone.unet,
        scheduler=DDIMScheduler.from_config(base.scheduler_config),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
        **more,
    )


@pytest.mark.parametrize("negative", ["", "c"])
def test_xl_without_control(negative, final) -> None:
    """Two text encoders, pooled text, the size; an empty negative prompt is zeros."""
    base = tiny_base("sdxl")
    generate(base, "a b", negative_prompt=negative, steps=STEPS, guidance=5.0, count=2, seed=3, size=(128, 192))
    pipe = xl(StableDiffusionXLPipeline, base)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        ["a b"] * 2,
        negative_prompt=[negative] * 2 if negative else None,
        num_inference_steps=STEPS,
        guidance_scale=5.0,
        width=128,
        height=192,
        generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)],
        output_type="latent",
    ).images
    assert torch.allclose(final[0], theirs, atol=1e-4)


def test_xl_two_controls(final, tmp_path) -> None:
    base = tiny_base("sdxl")
    nets = [randomise(ControlNet.attach(base), seed) for seed in (1, 2)]
    conditions = [torch.rand(1, 3, 128, 128) for _ in nets]
    controls = [Control(nets[0], conditions[0], weight=0.6), Control(nets[1], conditions[1], weight=1.1)]
    generate(base, "a b", controls, negative_prompt="c", steps=STEPS, guidance=5.0, seed=3)
    multi = MultiControlNetModel([published(net, tmp_path / str(i)) for i, net in enumerate(nets)])
    theirs = run(
        xl(StableDiffusionXLControlNetPipeline, base, controlnet=multi),
        [3],
        image=conditions,
        guidance_scale=5.0,
        controlnet_conditioning_scale=[0.6, 1.1],
    )
    assert torch.allclose(final[0], theirs, atol=1e-4)
