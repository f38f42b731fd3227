"""Whole generations with Stable Diffusion 3 equal those of diffusers' pipelines, from folders that either wrote."""

import json
import shutil

import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3ControlNetModel,
    StableDiffusion3ControlNetInpaintingPipeline,
    StableDiffusion3ControlNetPipeline,
    StableDiffusion3Pipeline,
)
from tests.conftest import randomise
from tests.tiny_sd3 import published, tiny_sd3

import maquette as mq
from maquette.base import Base
from maquette.checkpoints.save import save_base
from maquette.errors import MaquetteWarning

STEPS, GUIDANCE, SIZE, SEEDS = 4, 5.0, (96, 64), (3, 4)


def ours(base: Base, *controls: mq.Control) -> torch.Tensor:
    return mq.generate(
        base, "a b", controls, negative_prompt="c", steps=STEPS, guidance=GUIDANCE, seed=SEEDS[0], count=len(SEEDS),
        size=SIZE, returns="latents",
    )  # fmt: skip


def parts(base: Base) -> dict:
    first, second = base.text.text_encoders
    t5 = base.text.t5
    return {
        "transformer": base.backbone.network,
        "scheduler": FlowMatchEulerDiscreteScheduler.from_config(base.scheduler_config),
        "vae": base.autoencoder,
        "text_encoder": first.encoder,
        "tokenizer": first.tokenizer,
        "text_encoder_2": second.encoder,
        "tokenizer_2": second.tokenizer,
        "text_encoder_3": t5 and t5.encoder,
        "tokenizer_3": t5 and t5.tokenizer,
    }


def theirs(pipeline, **more) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    prompts = {"prompt": ["a b"] * len(SEEDS), "negative_prompt": ["c"] * len(SEEDS)}
    width, height = SIZE
    return pipeline(
        **prompts, **more, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generators, width=width,
        height=height, output_type="latent",
    ).images  # fmt: skip


@pytest.mark.parametrize("form", ["T5", "without T5", "T5 left out"])
def test_without_control(form) -> None:
    base = tiny_sd3(t5=form == "T5", blank=256 if form == "T5 left out" else 0)
    length = 0 if form == "without T5" else 256
    expected = theirs(StableDiffusion3Pipeline(**parts(base)), max_sequence_length=length)
    assert expected.std() > 0.5
    assert torch.allclose(ours(base), expected, atol=1e-4)


NETS = {
    "zero pooled, not shifted": {},
    "pooled, shifted": {"force_zeros_for_pooled_projection": False},
    "no text, the base's positions": {
        "joint_attention_dim": None, "use_pos_embed": False, "pos_embed_type": None,
        "force_zeros_for_pooled_projection": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("form", NETS)
def test_one_control(form, tmp_path) -> None:
    base, condition = tiny_sd3(), torch.rand(1, 3, SIZE[1], SIZE[0])
    net = published(base, 2, **NETS[form])
    net.save_pretrained(tmp_path)
    control = mq.Control(mq.load_controlnet(tmp_path, base), condition, weight=0.8, end=0.75)
    pipeline = StableDiffusion3ControlNetPipeline(**parts(base), controlnet=net)
    settings = {"controlnet_conditioning_scale": 0.8, "control_guidance_end": 0.75}
    if form.startswith("no text"):  # the pipeline passes the condition's latents through the base's embedding
        pipeline.controlnet.pos_embed = None
        forward = net.forward
        net.forward = lambda hidden_states, **more: forward(base.backbone.network.pos_embed(hidden_states), **more)
    expected = theirs(pipeline, control_image=2 * condition - 1, **settings)
    without = ours(base)
    assert not torch.allclose(without, expected, atol=0.1)
    assert torch.allclose(ours(base, control), expected, atol=1e-4)


def test_painting_in(tmp_path) -> None:
    """alimama's: zeros for the pooled text, but shifted latents; only its tensors tell of the mask."""
    base, picture = tiny_sd3(), torch.rand(1, 3, SIZE[1], SIZE[0])
    white = torch.zeros(1, 1, SIZE[1], SIZE[0])
    white[..., 20:50, 13:] = 1
    net = published(base, 2, extra_conditioning_channels=1)
    net.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["extra_conditioning_channels"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    control = mq.Control(mq.load_controlnet(tmp_path, base), picture.masked_fill(white > 0, -1))
    pipeline = StableDiffusion3ControlNetInpaintingPipeline(**parts(base), controlnet=net)
    expected = theirs(pipeline, control_image=2 * picture - 1, control_mask=white)
    assert torch.allclose(ours(base, control), expected, atol=1e-4)
    assert not torch.allclose(ours(base, mq.Control(control.net, picture)), expected, atol=1e-2)


def test_a_net_of_ours_in_diffusers(tmp_path) -> None:
    base, condition = tiny_sd3(), torch.rand(1, 3, SIZE[1], SIZE[0])
    net = randomise(mq.ControlNet.attach(base))
    net.save(tmp_path)
    pipeline = StableDiffusion3ControlNetPipeline(
        **parts(base), controlnet=SD3ControlNetModel.from_pretrained(tmp_path)
    )
    expected = theirs(pipeline, control_image=2 * condition - 1)
    assert torch.allclose(ours(base, mq.Control(net, condition)), expected, atol=1e-4)


def test_two_of_different_depth_are_the_sum_of_single_runs(tmp_path) -> None:
    """diffusers cuts the longer list and wires both by the shorter; here each keeps its own wiring, zeros and shift."""
    base, maps = tiny_sd3(blocks=5), torch.rand(2, 3, SIZE[1], SIZE[0])
    nets = []
    for blocks, zero in ((4, True), (2, False)):
        net = published(base, blocks, seed=blocks, force_zeros_for_pooled_projection=zero)
        net.save_pretrained(tmp_path / str(blocks))
        nets.append(mq.load_controlnet(tmp_path / str(blocks), base))
    z, text = torch.randn(1, 4, 8, 12), base.encode_text(["a b"])
    with torch.no_grad():
        conditions = [
            net.encode(net.condition_input(one[None], base.encode_maps)) for net, one in zip(nets, maps, strict=True)
        ]
        single = [net(z, 500, text, condition) for net, condition in zip(nets, conditions, strict=True)]
        shift = base.autoencoder.config.shift_factor * base.autoencoder.config.scaling_factor
        both = [net.condition_input(maps[:1], base.encode_maps) for net in nets]
        assert torch.allclose(both[0] - both[1], torch.full_like(both[0], shift), atol=1e-5)
    steps = []
    controls = [mq.Control(net, one[None]) for net, one in zip(nets, maps, strict=True)]
    mq.generate(base, "a b", controls, steps=1, guidance=1, size=SIZE, returns="latents", callback=steps.append)
    seen = steps[0].residuals
    with torch.no_grad():
        z, time = steps[0].latents, steps[0].time
        single = [net(z, time, text, condition) for net, condition in zip(nets, conditions, strict=True)]
    for slot in range(4):
        assert torch.allclose(seen[slot], single[0][slot] + single[1][slot], atol=1e-5)
        assert single[0][slot].std() > 0.1
        assert single[1][slot].std() > 0.1


@pytest.mark.parametrize("t5", [True, False])
def test_a_folder_of_ours_in_diffusers(t5, tmp_path) -> None:
    base = tiny_sd3(t5=t5)
    save_base(base, tmp_path)
    loaded = mq.load_base(tmp_path)
    assert torch.equal(ours(loaded), ours(base))
    left_out = {} if t5 else {"text_encoder_3": None, "tokenizer_3": None}
    pipeline = StableDiffusion3Pipeline.from_pretrained(tmp_path, **left_out)
    expected = theirs(pipeline, max_sequence_length=256 if t5 else 0)
    assert torch.allclose(ours(loaded), expected, atol=1e-4)
    assert loaded.defaults == base.defaults


def test_a_folder_of_diffusers_without_t5(tmp_path) -> None:
    """As a recipe for a base of its own saves it: patches of one latent, and in half precision."""
    base = tiny_sd3(t5=False, patch_size=1, qk_norm="rms_norm")
    StableDiffusion3Pipeline(**parts(base)).to(torch.float16).save_pretrained(tmp_path)
    pipeline = StableDiffusion3Pipeline.from_pretrained(tmp_path, text_encoder_3=None, tokenizer_3=None)
    pipeline.to(torch.float32)
    loaded = mq.load_base(tmp_path, dtype="float32")
    assert (loaded.defaults.steps, loaded.defaults.guidance, loaded.defaults.sampler) == (28, 7.0, "euler")
    assert loaded.size == 128
    assert torch.allclose(ours(loaded), theirs(pipeline, max_sequence_length=0), atol=1e-4)


def test_t5_left_out_of_a_folder_is_said_and_counts_as_zeros(tmp_path) -> None:
    StableDiffusion3Pipeline(**parts(tiny_sd3())).save_pretrained(tmp_path)
    shutil.rmtree(tmp_path / "text_encoder_3")
    with pytest.warns(MaquetteWarning, match=r"came without T5 \(text_encoder_3\): prompts are read by CLIP alone"):
        loaded = mq.load_base(tmp_path)
    assert torch.equal(ours(loaded), ours(tiny_sd3(t5=False, blank=256)))
    save_base(loaded, tmp_path / "again")
    with pytest.warns(MaquetteWarning, match="came without T5"):
        again = mq.load_base(tmp_path / "again")
    assert torch.equal(ours(again), ours(loaded))
