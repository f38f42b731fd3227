"""Whole generations with Flux equal those of diffusers' pipelines, from folders that either wrote."""

import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxControlNetModel,
    FluxControlNetPipeline,
    FluxPipeline,
)
from tests.conftest import randomise
from tests.tiny_flux import XLABS, published, tiny_flux

import maquette as mq
from maquette.backbones.transformers.packing import pack
from maquette.base import Base
from maquette.checkpoints.save import save_base
from maquette.errors import MaquetteError, MaquetteWarning

pytestmark = pytest.mark.filterwarnings("ignore:.FluxPosEmbed:FutureWarning")  # of diffusers, to itself

STEPS, SIZE, SEEDS = 3, (96, 64), (3, 4)


def ours(base: Base, *controls: mq.Control, **more) -> torch.Tensor:
    settings = {"steps": STEPS, "seed": SEEDS[0], "count": len(SEEDS), "size": SIZE, **more}
    return pack(mq.generate(base, "a b", controls, returns="latents", **settings))


def parts(base: Base) -> dict:
    (clip,), t5 = base.text.text_encoders, base.text.t5
    return {
        "transformer": base.backbone.network,
        "scheduler": FlowMatchEulerDiscreteScheduler.from_config(base.scheduler_config),
        "vae": base.autoencoder,
        "text_encoder": clip.encoder,
        "tokenizer": clip.tokenizer,
        "text_encoder_2": t5.encoder,
        "tokenizer_2": t5.tokenizer,
    }


def theirs(pipeline, guidance: float = 3.5, **more) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    width, height = SIZE
    noise = [torch.randn(4, height // 8, width // 8, generator=generator) for generator in generators]
    more["latents"] = pack(torch.stack(noise))  # the pipeline would draw the condition's posterior first
    return pipeline(
        prompt=["a b"] * len(SEEDS), **more, num_inference_steps=STEPS, guidance_scale=guidance, generator=generators,
        width=width, height=height, output_type="latent",
    ).images  # fmt: skip


def test_distilled_guidance() -> None:
    """By default 3.5; another scale is another image."""
    base = tiny_flux()
    for ours_settings, scale in (({}, 3.5), ({"distilled_guidance": 7.0}, 7.0)):
        expected = theirs(FluxPipeline(**parts(base)), scale)
        assert expected.std() > 0.5
        assert torch.allclose(ours(base, **ours_settings), expected, atol=1e-4)
    assert not torch.allclose(ours(base), expected, atol=1e-3)


def test_true_guidance_away_from_a_negative_prompt() -> None:
    base = tiny_flux()
    negative = {"negative_prompt": ["c"] * len(SEEDS), "true_cfg_scale": 4.0}
    expected = theirs(FluxPipeline(**parts(base)), **negative)
    assert torch.allclose(ours(base, negative_prompt="c", guidance=4.0), expected, atol=1e-4)


def test_a_base_that_takes_no_scale_says_so() -> None:
    base = tiny_flux(guidance_embeds=False)
    expected = theirs(FluxPipeline(**parts(base)), max_sequence_length=256)
    with pytest.warns(MaquetteWarning, match="this base takes no scale of guidance"):
        assert torch.allclose(ours(base, distilled_guidance=2.0), expected, atol=1e-4)


NETS = {
    "2 + 0": {"doubles": 2},
    "1 + 3": {"doubles": 1, "singles": 3},
    "without guidance": {"doubles": 2, "guidance_embeds": False},
    "XLabs": {"doubles": 2, **XLABS},
}


@pytest.mark.parametrize("form", NETS)
def test_one_control(form, tmp_path) -> None:
    base, condition = tiny_flux(), torch.rand(1, 3, SIZE[1], SIZE[0])
    net = published(base.backbone.network, **NETS[form])
    net.save_pretrained(tmp_path)
    control = mq.Control(mq.load_controlnet(tmp_path, base), condition, weight=0.8, end=0.75)
    pipeline = FluxControlNetPipeline(**parts(base), controlnet=net)
    settings = {"controlnet_conditioning_scale": 0.8, "control_guidance_end": 0.75}
    expected = theirs(pipeline, control_image=2 * condition - 1, **settings)
    assert not torch.allclose(ours(base), expected, atol=0.05)
    assert torch.allclose(ours(base, control), expected, atol=1e-4)


def test_painting_in(tmp_path) -> None:
    """alimama's: diffusers has no class for it, so the mask is put beside the latents that its pipeline makes."""
    base, picture = tiny_flux(), torch.rand(1, 3, SIZE[1], SIZE[0])
    white = torch.zeros(1, 1, SIZE[1], SIZE[0])
    white[..., 20:50, 13:] = 1
    net = published(base.backbone.network, 2, paints=True)
    net.save_pretrained(tmp_path)
    control = mq.Control(mq.load_controlnet(tmp_path, base), picture.masked_fill(white > 0, -1))
    forward, kept = net.forward, pack(1 - torch.nn.functional.interpolate(white, (SIZE[1] // 8, SIZE[0] // 8)))

    def with_mask(hidden_states, controlnet_cond, **more):
        beside = kept.expand(len(controlnet_cond), -1, -1)
        return forward(hidden_states, torch.cat([controlnet_cond, beside], dim=-1), **more)

    net.forward = with_mask
    pipeline = FluxControlNetPipeline(**parts(base), controlnet=net)
    expected = theirs(pipeline, control_image=(2 * picture - 1).masked_fill(white > 0, -1))
    assert torch.allclose(ours(base, control), expected, atol=1e-4)
    assert not torch.allclose(ours(base, mq.Control(control.net, picture)), expected, atol=1e-2)


def test_a_union_is_told_the_kind_of_its_condition_by_name(tmp_path) -> None:
    """Two kinds are two runs, which add up; a missing or unknown name is a sentence."""
    base, condition = tiny_flux(), torch.rand(1, 3, SIZE[1], SIZE[0])
    theirs_net = published(base.backbone.network, 2, 1, num_mode=10)
    theirs_net.save_pretrained(tmp_path)
    net = mq.load_controlnet(tmp_path, base)
    pipeline = FluxControlNetPipeline(**parts(base), controlnet=theirs_net)
    expected = theirs(pipeline, control_image=2 * condition - 1, control_mode=2)
    assert torch.allclose(ours(base, mq.Control(net, condition, type="depth")), expected, atol=1e-4)
    assert not torch.allclose(ours(base, mq.Control(net, condition, type="canny")), expected, atol=1e-3)
    kinds, steps = ("depth", "canny"), []
    controls = [mq.Control(net, condition, type=kind) for kind in kinds]
    ours(base, *controls, steps=1, count=1, callback=steps.append)
    text, features = base.encode_text(["a b"]), net.encode(net.condition_input(condition, base.encode_maps))
    with torch.no_grad():
        one, two = (net(steps[0].latents, steps[0].time, text, [net.typed(features, kind)]) for kind in kinds)
    assert all(torch.equal(steps[0].residuals[slot], one[slot] + two[slot]) for slot in range(7))
    for kind in (None, "scribbles"):
        with pytest.raises(MaquetteError, match=r"follows several kinds of condition.*canny, tile, depth, blur"):
            ours(base, mq.Control(net, condition, type=kind))


def test_a_net_of_ours_in_diffusers(tmp_path) -> None:
    base, condition = tiny_flux(), torch.rand(1, 3, SIZE[1], SIZE[0])
    net = randomise(mq.ControlNet.attach(base, blocks=4))
    net.save(tmp_path)
    pipeline = FluxControlNetPipeline(**parts(base), controlnet=FluxControlNetModel.from_pretrained(tmp_path))
    expected = theirs(pipeline, control_image=2 * condition - 1)
    assert (net.control.design.doubles, net.control.design.singles) == (3, 1)
    assert torch.allclose(ours(base, mq.Control(net, condition)), expected, atol=1e-4)


@pytest.mark.parametrize("reverse", [False, True])
def test_nets_of_different_depth_are_the_sum_of_single_runs(reverse, tmp_path) -> None:
    """diffusers drops the single blocks of all but the first, and wires all by the shortest."""
    base, maps = tiny_flux(), torch.rand(2, 3, SIZE[1], SIZE[0])
    network, nets = base.backbone.network, []
    for number, form in enumerate(({"doubles": 1}, {"doubles": 3, "singles": 2, "guidance_embeds": False})):
        published(network, seed=number, **form).save_pretrained(tmp_path / str(number))
        nets.append(mq.load_controlnet(tmp_path / str(number), base))
    pairs = list(zip(nets, maps, strict=True))[:: -1 if reverse else 1]
    steps = []
    controls = [mq.Control(net, one[None]) for net, one in pairs]
    mq.generate(base, "a b", controls, steps=1, size=SIZE, returns="latents", callback=steps.append)
    seen, text = steps[0].residuals, base.encode_text(["a b"])
    with torch.no_grad():
        single = [
            net(steps[0].latents, steps[0].time, text, net.encode(net.condition_input(one[None], base.encode_maps)))
            for net, one in pairs
        ]
    for slot in range(len(base.backbone.slots)):
        expected = [residuals[slot] for residuals in single if residuals[slot] is not None]
        assert len(expected) == (2 if slot < 3 else 1)
        assert torch.equal(seen[slot], sum(expected[1:], expected[0]))


def test_a_folder_of_ours_in_diffusers(tmp_path) -> None:
    base = tiny_flux()
    save_base(base, tmp_path)
    loaded = mq.load_base(tmp_path)
    assert torch.equal(ours(loaded), ours(base))
    assert loaded.defaults == base.defaults
    pipeline = FluxPipeline.from_pretrained(tmp_path)
    assert torch.allclose(ours(loaded), theirs(pipeline), atol=1e-4)


def test_a_folder_of_diffusers(tmp_path) -> None:
    base = tiny_flux()
    FluxPipeline(**parts(base)).save_pretrained(tmp_path)
    loaded = mq.load_base(tmp_path)
    assert (loaded.defaults.steps, loaded.defaults.guidance, loaded.defaults.sampler) == (28, 1.0, "euler")
    assert torch.equal(ours(loaded), ours(base))
