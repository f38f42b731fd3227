"""Union ControlNets of Stable Diffusion XL equal diffusers', forward, backward and in whole generations."""

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionXLControlNetUnionPipeline
from tests.conftest import text_for, tiny_base, tiny_unet
from tests.parity.test_controlnet import added_cond_kwargs
from tests.tiny_union import published_union

from maquette.backbones.unet import UNetBackbone
from maquette.checkpoints.controlnets import load_controlnet, read_controlnet
from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.sampling.generate import generate

TYPES = [
    (["canny"], [3], [1.0]),
    (["depth", "openpose"], [1, 0], [1.0, 1.0]),
    (["scribble", "mlsd", "normal"], [2, 3, 4], [0.4, 1.3, 0.7]),
]


@pytest.fixture(params=[6, 8], ids=["union", "ProMax"])
def pair(request, tmp_path):
    """The base, diffusers' network, and ours as read from its folder."""
    unet = tiny_unet("sdxl")
    theirs = published_union(unet, request.param)
    theirs.save_pretrained(tmp_path)
    return UNetBackbone(unet), theirs, read_controlnet(tmp_path, UNetBackbone(unet))


def ours(net: ControlNet, z, text, conditions, names, weights, t=321):
    given = [net.typed(net.encode(c), name, w) for c, name, w in zip(conditions, names, weights, strict=True)]
    return net(z, t, text, given)


def of_theirs(net, z, text, conditions, numbers, weights, t=321):
    """One row at a time: diffusers' attention mixes the rows of a batch."""
    kinds = torch.zeros(1, net.config.num_control_type)
    kinds[0, numbers] = 1
    rows = []
    for row in range(len(z)):
        one = slice(row, row + 1)
        down, middle = net(
            z[one], t, text[one].hidden_states, [c[one] for c in conditions], kinds, numbers,
            conditioning_scale=weights, added_cond_kwargs=added_cond_kwargs(text[one]), return_dict=False,
        )  # fmt: skip
        rows.append([*down, middle])
    return [torch.cat(slot) for slot in zip(*rows, strict=True)]


@pytest.mark.parametrize(("names", "numbers", "weights"), TYPES, ids=["one", "two", "three, weighted"])
def test_residuals_and_gradients(pair, names, numbers, weights) -> None:
    backbone, theirs, net = pair
    net.requires_grad_(True)
    text = text_for(backbone)
    generator = torch.Generator().manual_seed(4)
    z = torch.randn(2, 4, 16, 16, generator=generator)
    conditions = [torch.rand(2, 3, 128, 128, generator=generator) for _ in names]
    mine = ours(net, z, text, conditions, names, weights)
    reference = of_theirs(theirs, z, text, conditions, numbers, weights)
    assert len(mine) == len(reference)
    for one, other in zip(mine, reference, strict=True):
        assert other.std() > 1e-2
        assert torch.allclose(one, other, atol=1e-5)
    for residuals in (mine, reference):
        sum((value * value.detach().roll(1)).mean() for value in residuals).backward()
    gradients = {name: value.grad for name, value in theirs.named_parameters()}
    found = {net.control.published(name): value.grad for name, value in net.named_parameters()}
    assert found.keys() == gradients.keys()
    for name, expected in gradients.items():
        scale = max(1.0, float(expected.abs().max()))
        assert torch.allclose(found[name], expected, atol=1e-5 * scale), name
    for name in ("task_embedding", "spatial_ch_projs.weight", "control_add_embedding.linear_1.weight"):
        assert gradients[name].any()


def test_no_image_depends_on_its_batch(pair) -> None:
    backbone, _, net = pair
    text, z = text_for(backbone), torch.randn(2, 4, 16, 16)
    conditions = [torch.rand(2, 3, 128, 128)] * 2
    with torch.no_grad():
        both = ours(net, z, text, conditions, ["depth", "canny"], [1.0, 1.0])
        alone = ours(net, z[:1], text[:1], [c[:1] for c in conditions], ["depth", "canny"], [1.0, 1.0])
    assert all(torch.allclose(one[:1], other, atol=1e-5) for one, other in zip(both, alone, strict=True))


def test_saved_as_diffusers_reads_it(pair, tmp_path) -> None:
    _, theirs, net = pair
    net.save(tmp_path / "saved")
    again, report = type(theirs).from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in again.state_dict().items())
    told = {name: theirs.config[name] for name in theirs.config if name.startswith("num_")}
    assert told == {name: again.config[name] for name in told}


def run(base, theirs, conditions, numbers, scale, seed=3):
    clips = base.text.text_encoders
    pipe = StableDiffusionXLControlNetUnionPipeline(
        base.autoencoder, clips[0].encoder, clips[1].encoder, clips[0].tokenizer, clips[1].tokenizer,
        base.backbone.unet, theirs, DDIMScheduler.from_config(base.scheduler_config),
        force_zeros_for_empty_prompt=True, add_watermarker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        "a b", negative_prompt="c", control_image=list(conditions), control_mode=numbers, num_inference_steps=8,
        guidance_scale=5.0, controlnet_conditioning_scale=scale, output_type="latent", height=128, width=128,
        generator=torch.Generator("cpu").manual_seed(seed),
    ).images  # fmt: skip


@pytest.mark.parametrize(
    ("names", "numbers", "weights"), [TYPES[0], TYPES[2], (["segmentation"], [5], [0.6])], ids=["one", "three", "weak"]
)
def test_whole_generations(names, numbers, weights, tmp_path) -> None:
    """Also of several images at once, where diffusers makes one at a time."""
    base = tiny_base("sdxl")
    theirs = published_union(base.backbone.unet)
    theirs.save_pretrained(tmp_path)
    net = load_controlnet(tmp_path, base)
    conditions = [torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(n)) for n in range(len(names))]
    controls = [Control(net, c, w, type=name) for c, name, w in zip(conditions, names, weights, strict=True)]
    made = generate(
        base, "a b", controls, negative_prompt="c", steps=8, guidance=5.0, count=2, seed=3, size=(128, 128),
        returns="latents",
    )  # fmt: skip
    scale = weights[0] if len(weights) == 1 else weights
    for row, seed in enumerate([3, 4]):
        expected = run(base, theirs, conditions, numbers, scale, seed)[0]
        assert torch.allclose(made[row], expected, atol=1e-4 * float(expected.std()))
    plain = generate(
        base, "a b", negative_prompt="c", steps=8, guidance=5.0, seed=3, size=(128, 128), returns="latents"
    )
    assert (made[0] - plain[0]).abs().max() > 1e-2


def test_types_are_asked_for_by_name(pair) -> None:
    backbone, _, net = pair
    base, map_ = tiny_base("sdxl"), torch.rand(1, 3, 128, 128)
    for name in (None, "sketch"):
        with pytest.raises(MaquetteError, match=r"follows several kinds.*openpose/pose, depth, hed/pidi"):
            generate(base, "a", Control(net, map_, type=name))
    with pytest.raises(MaquetteError, match="several kinds"):
        net(torch.randn(1, 4, 16, 16), 3, text_for(backbone, 1), net.encode(map_))
    if net.control.types == 6:
        with pytest.raises(MaquetteError, match="'tile' is none of them"):
            net.typed(map_, "tile")
    else:
        assert net.typed(map_, "repaint").type == 7
    plain = ControlNet.attach(base)
    with pytest.warns(MaquetteWarning, match="type 'canny' of control 1 of 1 has no effect"):
        generate(base, "a", Control(plain, map_, type="canny"), steps=1)


def test_another_base_is_refused(pair, tmp_path) -> None:
    pair[2].save(tmp_path / "net")
    with pytest.raises(MaquetteError, match="made for a Stable Diffusion XL"):
        read_controlnet(tmp_path / "net", UNetBackbone(tiny_unet("sd15")))


def test_masked_ones_act_by_themselves(tmp_path) -> None:
    """One with a mask adds its own residuals, as those of two networks add up."""
    base = tiny_base("sdxl")
    published_union(base.backbone.unet).save_pretrained(tmp_path)
    net, twin = load_controlnet(tmp_path, base), load_controlnet(tmp_path, base)
    maps = torch.rand(2, 1, 3, 128, 128)
    half = torch.zeros(128, 128)
    half[:, :64] = 1

    def latents(second):
        controls = [Control(net, maps[0], type="canny"), Control(second, maps[1], type="depth", mask=half.numpy())]
        return generate(base, "a", controls, steps=2, size=(128, 128), returns="latents")

    assert torch.equal(latents(net), latents(twin))
