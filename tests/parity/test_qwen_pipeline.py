"""Whole generations with Qwen-Image equal those of diffusers' pipelines, from folders that either wrote."""

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    QwenImageControlNetInpaintPipeline,
    QwenImageControlNetModel,
    QwenImageControlNetPipeline,
    QwenImageMultiControlNetModel,
    QwenImagePipeline,
)
from tests.conftest import randomise
from tests.tiny_qwen import published, tiny_qwen

import maquette as mq
from maquette.backbones.transformers.packing import pack
from maquette.base import Base
from maquette.checkpoints.save import save_base
from maquette.errors import MaquetteError

STEPS, SIZE, SEEDS = 3, (96, 64), (3, 4)
PROMPT, NEGATIVE = "a red house", "b"


def ours(base: Base, *controls: mq.Control, **more) -> torch.Tensor:
    settings = {"steps": STEPS, "seed": SEEDS[0], "count": len(SEEDS), "size": SIZE, "negative_prompt": NEGATIVE}
    return pack(mq.generate(base, PROMPT, controls, returns="latents", **{**settings, **more}))


def parts(base: Base) -> dict:
    return {
        "transformer": base.backbone.network,
        "scheduler": FlowMatchEulerDiscreteScheduler.from_config(base.scheduler_config),
        "vae": base.autoencoder.video,
        "text_encoder": base.text.network,
        "tokenizer": base.text.tokenizer,
    }


def theirs(pipeline, guidance: float = 4.0, **more) -> torch.Tensor:
    """diffusers' img_shapes count the images, so all get a prompt of their own."""
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    width, height = SIZE
    noise = [torch.randn(4, height // 8, width // 8, generator=generator) for generator in generators]
    more["latents"] = pack(torch.stack(noise))  # the pipeline would draw the condition's posterior first
    settings = {
        "prompt": [PROMPT] * len(SEEDS), "negative_prompt": [NEGATIVE] * len(SEEDS), "true_cfg_scale": guidance,
        "num_inference_steps": STEPS, "width": width, "height": height, "output_type": "latent",
    }  # fmt: skip
    return pipeline(**{**settings, **more}, generator=generators).images


@pytest.mark.parametrize("guidance", [4.0, 1.0])
def test_guidance(guidance) -> None:
    base = tiny_qwen()
    expected = theirs(QwenImagePipeline(**parts(base)), guidance)
    assert expected.std() > 0.5
    more = {"negative_prompt": ""} if guidance == 1 else {}
    assert torch.allclose(ours(base, guidance=guidance, **more), expected, atol=1e-4)


def test_pictures() -> None:
    """The same seed is the same picture."""
    base = tiny_qwen()
    settings = {"seed": SEEDS[0], "count": len(SEEDS), "steps": STEPS, "size": SIZE, "negative_prompt": NEGATIVE}
    mine = mq.generate(base, PROMPT, **settings)
    expected = theirs(QwenImagePipeline(**parts(base)), output_type="pil")
    for one, other in zip(mine, expected, strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1
        assert len(set(one.tobytes())) > 20


def test_prompts_of_different_length_in_one_batch() -> None:
    """Each is masked behind its end, and equals the pipeline's image of it, alone or in a batch."""
    base, prompts = tiny_qwen(), ["a red house", "b"]
    together = ours_of(base, prompts)
    expected = theirs(QwenImagePipeline(**parts(base)), prompt=prompts)
    assert torch.allclose(together, expected, atol=1e-4)
    alone = torch.cat([ours_of(base, [prompt], seed=seed) for prompt, seed in zip(prompts, SEEDS, strict=True)])
    assert torch.allclose(together, alone, atol=1e-4)


def ours_of(base: Base, prompts: list[str], seed: int = SEEDS[0]) -> torch.Tensor:
    settings = {"steps": STEPS, "seed": seed, "size": SIZE, "negative_prompt": NEGATIVE, "returns": "latents"}
    return pack(mq.generate(base, prompts, **settings))


@pytest.mark.parametrize("guidance", [4.0, 1.0])
@pytest.mark.parametrize("blocks", [2, 3])
def test_one_control(blocks, guidance, tmp_path) -> None:
    """Under guidance too, where the residuals under the prompt serve both branches."""
    base, condition = tiny_qwen(), torch.rand(1, 3, SIZE[1], SIZE[0])
    net = published(base.backbone.network, blocks)
    net.save_pretrained(tmp_path)
    control = mq.Control(mq.load_controlnet(tmp_path, base), condition, weight=0.8, end=0.75)
    pipeline = QwenImageControlNetPipeline(**parts(base), controlnet=net)
    settings = {"controlnet_conditioning_scale": 0.8, "control_guidance_end": 0.75}
    expected = theirs(pipeline, guidance, control_image=2 * condition - 1, **settings)
    more = {"guidance": guidance} | ({"negative_prompt": ""} if guidance == 1 else {})
    assert not torch.allclose(ours(base, **more), expected, atol=0.05)
    assert torch.allclose(ours(base, control, **more), expected, atol=1e-4)


def test_one_union_under_two_conditions(tmp_path) -> None:
    """Its two runs add up, as in diffusers' class for several."""
    base, conditions = tiny_qwen(), torch.rand(2, 3, SIZE[1], SIZE[0])
    net = published(base.backbone.network, 2)
    net.save_pretrained(tmp_path)
    union = mq.load_controlnet(tmp_path, base)
    pipeline = QwenImageControlNetPipeline(**parts(base), controlnet=QwenImageMultiControlNetModel([net]))
    scales = [0.3, 0.6]
    expected = theirs(
        pipeline, control_image=[2 * one[None] - 1 for one in conditions], controlnet_conditioning_scale=scales
    )
    controls = [mq.Control(union, one[None], weight=scale) for one, scale in zip(conditions, scales, strict=True)]
    assert torch.allclose(ours(base, *controls), expected, atol=1e-4)


def test_painting_in(tmp_path) -> None:
    """Of a cell the first pixel says whether it is painted; of the image what is painted over is black."""
    base, picture = tiny_qwen(), torch.rand(1, 3, SIZE[1], SIZE[0])
    white = torch.zeros(1, 1, SIZE[1], SIZE[0])
    white[..., 20:50, 13:] = 1
    net = published(base.backbone.network, 2, extra_condition_channels=4)
    net.save_pretrained(tmp_path)
    control = mq.Control(mq.load_controlnet(tmp_path, base), picture.masked_fill(white > 0, -1))
    pipeline = QwenImageControlNetInpaintPipeline(**parts(base), controlnet=net)
    expected = theirs(pipeline, control_image=2 * picture - 1, control_mask=white)
    assert torch.allclose(ours(base, control), expected, atol=1e-4)
    whole = ours(base, mq.Control(control.net, picture))
    assert not torch.allclose(whole, expected, atol=1e-2)
    with pytest.raises(MaquetteError, match="this ControlNet follows conditions in"):
        ours(base, mq.Control(mq.ControlNet.attach(base), control.maps))


def test_a_net_of_ours_in_diffusers(tmp_path) -> None:
    base, condition = tiny_qwen(), torch.rand(1, 3, SIZE[1], SIZE[0])
    net = randomise(mq.ControlNet.attach(base, blocks=3))
    net.save(tmp_path)
    pipeline = QwenImageControlNetPipeline(**parts(base), controlnet=QwenImageControlNetModel.from_pretrained(tmp_path))
    expected = theirs(pipeline, control_image=2 * condition - 1)
    assert torch.allclose(ours(base, mq.Control(net, condition)), expected, atol=1e-4)


@pytest.mark.parametrize("reverse", [False, True])
def test_nets_of_different_depth_are_the_sum_of_single_runs(reverse, tmp_path) -> None:
    """diffusers takes several conditions of one net, not several nets."""
    base, maps = tiny_qwen(blocks=6), torch.rand(2, 3, SIZE[1], SIZE[0])
    network, nets = base.backbone.network, []
    for blocks in (2, 5):
        published(network, blocks, seed=blocks).save_pretrained(tmp_path / str(blocks))
        nets.append(mq.load_controlnet(tmp_path / str(blocks), base))
    pairs = list(zip(nets, maps, strict=True))[:: -1 if reverse else 1]
    steps = []
    controls = [mq.Control(net, one[None]) for net, one in pairs]
    mq.generate(base, PROMPT, controls, steps=1, size=SIZE, guidance=1, returns="latents", callback=steps.append)
    seen, text = steps[0].residuals, base.encode_text([PROMPT])
    with torch.no_grad():
        single = [
            net(steps[0].latents, steps[0].time, text, net.encode(net.condition_input(one[None], base.encode_maps)))
            for net, one in pairs
        ]
    assert all(torch.equal(seen[slot], single[0][slot] + single[1][slot]) for slot in range(6))


@pytest.mark.parametrize("source", ["ours", "diffusers"])
def test_folders(source, tmp_path) -> None:
    """What either wrote both read, without a missing or surplus tensor."""
    base = tiny_qwen()
    if source == "ours":
        save_base(base, tmp_path)
    else:
        QwenImagePipeline(**parts(base)).save_pretrained(tmp_path)
    loaded = mq.load_base(tmp_path)
    assert torch.equal(ours(loaded), ours(base))
    assert (loaded.defaults.steps, loaded.defaults.guidance, loaded.defaults.sampler) == (50, 4.0, "euler")
    again = QwenImagePipeline.from_pretrained(tmp_path)
    assert torch.allclose(ours(loaded), theirs(again), atol=1e-4)
    stored = again.text_encoder.state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in base.text.network.state_dict().items())
