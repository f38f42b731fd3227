"""Whole generations with Z-Image equal those of diffusers' pipelines, from folders that either wrote.

Its pipeline for ControlNets adds nothing to the refiner of the image, so only version 1.0 can be compared by it.
"""

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    ZImageControlNetInpaintPipeline,
    ZImageControlNetModel,
    ZImageControlNetPipeline,
    ZImagePipeline,
)
from tests.conftest import randomise
from tests.tiny_zimage import published, tiny_zimage

import maquette as mq
from maquette.base import Base
from maquette.checkpoints.save import save_base
from maquette.errors import MaquetteError
from maquette.text.qwen3 import TEMPLATE

STEPS, SIZE, SEEDS = 3, (96, 64), (3, 4)
PROMPT, NEGATIVE = "a red house", "b"
CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
"""What Qwen3's own template makes of one message."""


def ours(base: Base, *controls: mq.Control, prompt: str | list[str] = PROMPT, **more) -> torch.Tensor:
    settings = {
        "steps": STEPS, "seed": SEEDS[0], "count": len(SEEDS), "size": SIZE, "negative_prompt": NEGATIVE,
        "guidance": 6.0, "returns": "latents",
    }  # fmt: skip
    return mq.generate(base, prompt, controls, **{**settings, **more})


def parts(base: Base) -> dict:
    tokenizer = base.text.tokenizer
    tokenizer.chat_template = CHAT
    return {
        "transformer": base.backbone.network,
        "scheduler": FlowMatchEulerDiscreteScheduler.from_config(base.scheduler_config),
        "vae": base.autoencoder,
        "text_encoder": base.text.network,
        "tokenizer": tokenizer,
    }


def theirs(pipeline, guidance: float = 5.0, **more) -> torch.Tensor:
    """Guidance is off at 0 there, and at 1 here."""
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    width, height = SIZE
    settings = {
        "prompt": [PROMPT] * len(SEEDS), "negative_prompt": [NEGATIVE] * len(SEEDS), "guidance_scale": guidance,
        "num_inference_steps": STEPS, "width": width, "height": height, "output_type": "latent",
    }  # fmt: skip
    settings |= {"generator": generators}
    return pipeline(**{**settings, **more}).images


def assert_same(mine: torch.Tensor, expected: torch.Tensor) -> None:
    """Within 1e-4 of the largest latent: random weights make latents of any size."""
    assert (mine - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("guidance", [5.0, 0.0])
def test_guidance(guidance) -> None:
    base = tiny_zimage()
    expected = theirs(ZImagePipeline(**parts(base)), guidance)
    assert expected.std() > 0.5
    more = {"negative_prompt": ""} if guidance == 0 else {}
    assert_same(ours(base, guidance=guidance + 1, **more), expected)


def test_pictures() -> None:
    """The same seed is the same picture."""
    base = tiny_zimage()
    settings = {"seed": SEEDS[0], "count": len(SEEDS), "steps": STEPS, "size": SIZE, "negative_prompt": NEGATIVE}
    mine = mq.generate(base, PROMPT, **settings)
    expected = theirs(ZImagePipeline(**parts(base)), output_type="pil")
    for one, other in zip(mine, expected, strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1
        assert len(set(one.tobytes())) > 20


def test_prompts_of_different_length_in_one_batch() -> None:
    """One fills a second 32 tokens; each equals the pipeline's image of it, alone or in a batch."""
    base, prompts = tiny_zimage(), ["x" * 40, "b"]
    expected = theirs(ZImagePipeline(**parts(base)), prompt=list(prompts))
    together = ours(base, prompt=prompts)
    lengths = [len(base.text.tokenizer(TEMPLATE.format(prompt)).input_ids) for prompt in prompts]
    assert [-(-length // 32) for length in lengths] == [2, 1]
    assert_same(together, expected)
    alone = [ours(base, prompt=[prompt], seed=seed) for prompt, seed in zip(prompts, SEEDS, strict=True)]
    assert_same(together, torch.cat(alone))


@pytest.mark.parametrize("guidance", [5.0, 0.0])
@pytest.mark.parametrize("blocks", [2, 3])
def test_one_control(blocks, guidance, tmp_path) -> None:
    base, condition = tiny_zimage(), torch.rand(1, 3, SIZE[1], SIZE[0])
    net = published(base.backbone.network, "1.0", blocks)
    net.save_pretrained(tmp_path)
    control = mq.Control(mq.load_controlnet(tmp_path, base), condition, weight=0.8)
    pipeline = ZImageControlNetPipeline(**parts(base), controlnet=net)
    expected = theirs(pipeline, guidance, control_image=2 * condition - 1, controlnet_conditioning_scale=0.8)
    more = {"guidance": guidance + 1} | ({"negative_prompt": ""} if guidance == 0 else {})
    assert not torch.allclose(ours(base, **more), expected, atol=0.05)
    assert_same(ours(base, control, **more), expected)


def test_painting_in_along_a_map(tmp_path) -> None:
    """Of a net whose condition holds both, but which adds nothing to the refiner, since diffusers leaves that out."""
    base = tiny_zimage()
    picture, followed = torch.rand(2, 1, 3, SIZE[1], SIZE[0])
    white = torch.zeros(1, 1, SIZE[1], SIZE[0])
    white[..., 20:50, 13:] = 1
    net = published(base.backbone.network, "1.0", control_in_dim=9)
    net.save_pretrained(tmp_path)
    condition = torch.cat([followed, picture.masked_fill(white > 0, -1)], dim=1)
    control = mq.Control(mq.load_controlnet(tmp_path, base), condition)
    pipeline = ZImageControlNetInpaintPipeline(**parts(base), controlnet=net)
    expected = theirs(
        pipeline, image=2 * picture - 1, mask_image=white.expand(2, -1, -1, -1), control_image=2 * followed - 1,
        controlnet_conditioning_scale=1.0,
    )  # fmt: skip
    assert_same(ours(base, control), expected)
    for other in (followed, condition[:, 3:]):
        assert not torch.allclose(ours(base, mq.Control(control.net, other)), expected, atol=1e-2)
    with pytest.raises(MaquetteError, match="3, height, width"):
        ours(base, mq.Control(mq.ControlNet.attach(base), condition))


@pytest.mark.parametrize("form", ["2.0", "2.1"])
def test_a_weight_and_what_is_seen_behind_the_refiner(form, tmp_path) -> None:
    """A ControlNet that adds to the refiner sees behind it what the base has: its own residuals there, weighted."""
    base, condition = tiny_zimage(), torch.rand(1, 3, SIZE[1], SIZE[0])
    published(base.backbone.network, form, 2).save_pretrained(tmp_path)
    net = mq.load_controlnet(tmp_path, base)
    steps = []
    settings = {"steps": 1, "count": 1, "guidance": 1, "negative_prompt": "", "callback": steps.append}
    ours(base, mq.Control(net, condition, weight=0.4), **settings)
    seen, text = steps[0].residuals, base.encode_text([PROMPT])
    with torch.no_grad():
        given = net.encode(net.condition_input(condition, base.encode_maps))
        weighed, plain = (
            net(steps[0].latents, steps[0].time, text, given, lambda residuals, factor=factor: residuals.scaled(factor))
            for factor in (0.4, 1.0)
        )
    for slot, value in enumerate(seen):
        assert value is None or torch.allclose(value, 0.4 * weighed[slot], rtol=1e-4, atol=1e-5)
    assert torch.equal(weighed[0], plain[0])
    assert not torch.allclose(weighed[2], plain[2], atol=1e-3)


def test_a_net_of_ours_in_diffusers(tmp_path) -> None:
    base, condition = tiny_zimage(), torch.rand(1, 3, SIZE[1], SIZE[0])
    net = randomise(mq.ControlNet.attach(base, blocks=3))
    net.save(tmp_path)
    pipeline = ZImageControlNetPipeline(**parts(base), controlnet=ZImageControlNetModel.from_pretrained(tmp_path))
    expected = theirs(pipeline, control_image=2 * condition - 1, controlnet_conditioning_scale=1.0)
    assert_same(ours(base, mq.Control(net, condition)), expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_nets_of_different_depth_are_the_sum_of_single_runs(reverse, tmp_path) -> None:
    """diffusers takes one ControlNet."""
    base, maps = tiny_zimage(blocks=6), torch.rand(2, 3, SIZE[1], SIZE[0])
    network, nets = base.backbone.network, []
    for form, blocks in (("1.0", 2), ("2.1", 5)):
        published(network, form, blocks, seed=blocks).save_pretrained(tmp_path / form)
        nets.append(mq.load_controlnet(tmp_path / form, base))
    pairs = list(zip(nets, maps, strict=True))[:: -1 if reverse else 1]
    steps, controls = [], [mq.Control(net, one[None]) for net, one in pairs]
    ours(base, *controls, steps=1, count=1, guidance=1, negative_prompt="", callback=steps.append)
    seen, text = steps[0].residuals, base.encode_text([PROMPT])
    with torch.no_grad():
        first, second = (
            net(steps[0].latents, steps[0].time, text, net.encode(net.condition_input(one[None], base.encode_maps)))
            for net, one in pairs
        )
    summed = first + second
    for slot in range(8):
        values = [one for one in (first[slot], second[slot]) if one is not None]
        assert (seen[slot] is None) == (not values)
        assert not values or torch.equal(seen[slot], sum(values[1:], values[0]))
        beside = [one.beside[slot] for one in (first, second) if one.beside[slot] is not None]
        assert not beside or torch.equal(summed.beside[slot], sum(beside[1:], beside[0]))


@pytest.mark.parametrize("source", ["ours", "diffusers"])
def test_folders(source, tmp_path) -> None:
    """What either wrote both read, without a missing or surplus tensor."""
    base = tiny_zimage()
    if source == "ours":
        save_base(base, tmp_path)
    else:
        ZImagePipeline(**parts(base)).save_pretrained(tmp_path)
    loaded = mq.load_base(tmp_path)
    assert torch.equal(ours(loaded), ours(base))
    assert (loaded.defaults.steps, loaded.defaults.guidance, loaded.defaults.sampler) == (50, 6.0, "euler")
    again = ZImagePipeline.from_pretrained(tmp_path)
    again.tokenizer.chat_template = CHAT
    assert_same(ours(loaded), theirs(again))
    stored = again.text_encoder.state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in base.text.network.state_dict().items())
