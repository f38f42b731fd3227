"""Same seed, same image; inactive controls are not run; neutral settings have no effect."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import randomise, tiny_base

from maquette.base import Base
from maquette.controlnet.contract import Contract
from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.seeds import generators, noise
from maquette.noise.samplers import SAMPLERS
from maquette.sampling.generate import generate


@pytest.fixture(scope="module")
def base() -> Base:
    return tiny_base("sd15")


@pytest.fixture(scope="module")
def net(base: Base) -> ControlNet:
    return randomise(ControlNet.attach(base))


CONDITION = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def array(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image, np.int16) for image in images])


def run(base: Base, controls=(), **settings) -> np.ndarray:
    settings = {"steps": 4, "guidance": 3.0, "seed": 5, "size": (64, 64), **settings}
    return array(generate(base, settings.pop("prompt", "a"), list(controls), **settings))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of rows in each forward pass of a ControlNet."""
    seen: list[int] = []
    forward = ControlNet.forward

    def watch(self, latents, *args):
        seen.append(len(latents))
        return forward(self, latents, *args)

    monkeypatch.setattr(ControlNet, "forward", watch)
    return seen


@pytest.mark.parametrize("sampler", ["ddim", "euler-ancestral", "ddpm"])
def test_the_same_image_alone_and_in_any_batch(base, net, sampler) -> None:
    """Within 1 of 255: matrix products of more rows add up in another order."""
    control = [Control(net, CONDITION)]
    together = run(base, control, count=3, sampler=sampler)
    assert len({image.tobytes() for image in together}) == 3
    for batch_size in (1, 2):
        assert np.abs(run(base, control, count=3, batch_size=batch_size, sampler=sampler) - together).max() <= 1
    alone = run(base, control, seed=6, sampler=sampler)
    assert np.abs(alone[0] - together[1]).max() <= 1


def test_one_at_a_time_an_image_is_bitwise_the_same_in_any_call(base, net) -> None:
    maps = torch.cat([CONDITION, 1 - CONDITION, CONDITION])
    together = run(base, [Control(net, maps)], prompt=["a", "b c", "d"], batch_size=1)
    for number, prompt in enumerate(["a", "b c", "d"]):
        alone = run(base, [Control(net, maps[number : number + 1])], prompt=prompt, seed=5 + number)
        assert np.array_equal(alone[0], together[number])


def test_a_second_run_is_bitwise_the_same(base, net) -> None:
    first, second = (run(base, [Control(net, CONDITION)], count=2) for _ in range(2))
    assert np.array_equal(first, second)


def test_prompts_in_a_batch_equal_prompts_one_by_one(base, net) -> None:
    conditions = torch.cat([CONDITION, 1 - CONDITION])
    together = run(base, [Control(net, conditions)], prompt=["a", "b c"])
    for number, prompt in enumerate(["a", "b c"]):
        alone = run(base, [Control(net, conditions[number : number + 1])], prompt=prompt, seed=5 + number)
        assert np.abs(alone[0] - together[number]).max() <= 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_runs_the_control_in_every_step(base, net, sampler, calls) -> None:
    steps = [0]
    predict = base.predict

    def count(*args):
        steps[0] += 1
        return predict(*args)

    base.predict = count
    try:
        controlled = run(base, [Control(net, CONDITION)], sampler=sampler)
    finally:
        del base.predict
    assert len(calls) == steps[0] >= 4
    assert np.abs(controlled - run(base, sampler=sampler)).max() > 2


@pytest.mark.parametrize("sampler", ["ddim", "euler", "heun", "dpm++", "unipc"])
@pytest.mark.parametrize("strength", [1.0, 0.5, 0.3])
def test_with_the_true_noise_the_start_image_comes_back(base, sampler, strength, monkeypatch) -> None:
    """A correct prediction at every step recovers the latents that were noised."""
    start = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    (generator,) = generators([5])
    latents = base.encode_images([start], [generator])  # sampled before the noise, with the same generator
    truth = noise([generator], (4, 8, 8))
    monkeypatch.setattr(base, "predict", lambda latents, *args: truth.expand_as(latents))
    found = []
    monkeypatch.setattr(base, "decode_latents", lambda latents, *_: found.append(latents) or [start])
    generate(base, "a", image=start, strength=strength, steps=10, guidance=1, seed=5, size=(64, 64), sampler=sampler)
    assert (found[0] - latents).abs().max() < 0.1


def test_control_changes_the_image(base, net) -> None:
    plain = run(base)
    assert np.abs(run(base, [Control(net, CONDITION)]) - plain).max() > 5
    assert np.abs(run(base, [Control(net, CONDITION)]) - run(base, [Control(net, 1 - CONDITION)])).max() > 2


def test_an_inactive_control_is_not_run(base, net, calls) -> None:
    plain = run(base)
    assert np.array_equal(run(base, [Control(net, CONDITION, weight=0)]), plain)
    assert calls == []
    run(base, [Control(net, CONDITION, end=0.5)])
    assert calls == [2, 2]


def test_a_condition_in_one_branch_runs_that_half_only(base, net, calls) -> None:
    for condition_in in ("conditional", "weighted"):
        run(base, [Control(net, CONDITION)], condition_in=condition_in)
    assert calls == [1] * 8


def test_without_guidance_there_is_one_branch(base, net, calls) -> None:
    run(base, [Control(net, CONDITION)], guidance=1)
    run(base, [Control(net, CONDITION)], prompt="", guidance=7.0)  # both branches would be equal
    assert calls == [1] * 8


def test_the_condition_is_encoded_once(base, net, monkeypatch) -> None:
    seen = []
    encode = ControlNet.encode
    monkeypatch.setattr(ControlNet, "encode", lambda self, c: seen.append(c) or encode(self, c))
    run(base, [Control(net, CONDITION)], count=3, batch_size=1)
    assert len(seen) == 1


def test_two_halves_of_a_control_are_the_whole(base, net) -> None:
    whole = run(base, [Control(net, CONDITION)])
    halves = run(base, [Control(net, CONDITION, weight=0.5), Control(net, CONDITION, weight=0.5)])
    assert np.abs(whole - halves).max() <= 1


def test_the_variants_of_guidance_differ(base, net) -> None:
    control = [Control(net, CONDITION)]
    images = [run(base, control, condition_in=branches) for branches in ("both", "conditional", "weighted")]
    images.append(run(base, control, condition_in="weighted", resolution_weights="literal"))
    assert len({image.tobytes() for image in images}) == 4


def test_exif_rotation_is_applied_to_every_input(base, net) -> None:
    """Phones store images unrotated, with their rotation in EXIF."""
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 64, 3), dtype=np.uint8))
    rotated = upright.transpose(Image.Transpose.ROTATE_90)
    rotated.getexif()[274] = 6
    for settings in ({"image": upright}, {"image": upright, "mask": upright}, {"size": (64, 128)}):
        inputs = {name: rotated if value is upright else value for name, value in settings.items()}
        images = [
            generate(
                base,
                "a",
                [Control(net, map_)],
                steps=2,
                **{"strength": 0.5 if "image" in arguments else 1, **arguments},
            )
            for map_, arguments in ((upright, settings), (rotated, inputs))
        ]
        assert images[0][0].size == (64, 128)
        assert np.array_equal(*map(array, images))


def test_a_branch_without_guidance_warns(base, net) -> None:
    with pytest.warns(MaquetteWarning, match="Condition_in has no effect at a guidance of 1"):
        run(base, [Control(net, CONDITION)], condition_in="conditional", guidance=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": 0.5}, "Strength has no effect without a start image"),
        ({"condition_in": "weighted"}, "Condition_in has no effect without controls"),
        ({"resolution_weights": "literal"}, "unless condition_in is 'weighted'"),
        ({"negative_prompt": "c", "guidance": 1}, "Negative_prompt has no effect at a guidance of 1"),
    ],
)
def test_a_setting_without_effect_warns(base, settings, message) -> None:
    with pytest.warns(MaquetteWarning, match=message):
        run(base, **settings)


def test_a_control_without_an_active_step_warns(base, net) -> None:
    with pytest.warns(MaquetteWarning, match=r"none of the 4 steps lies between 0.4 and 0.45"):
        run(base, [Control(net, CONDITION, start=0.4, end=0.45)])


def test_strength_sets_how_much_changes(base) -> None:
    start = Image.new("RGB", (64, 64), "red")
    kept = array(base.decode_latents(base.encode_images([start])))
    distance = [np.abs(run(base, image=start, steps=10, strength=s) - kept).mean() for s in (0.1, 1.0)]
    assert distance[0] < distance[1]


def test_size_follows_the_condition_with_a_warning(base, net) -> None:
    with pytest.warns(UserWarning, match="70×60 pixels .* the images are 64×64"):
        images = generate(base, "a", [Control(net, Image.new("RGB", (70, 60), "white"))], steps=1)
    assert images[0].size == (64, 64)
    assert generate(base, "a", steps=1)[0].size == (base.size, base.size)
    assert generate(base, "a", steps=1, size=(128, 64))[0].size == (128, 64)


def test_a_truncated_prompt_warns(base) -> None:
    with pytest.warns(UserWarning, match="has 30 tokens and the text encoder takes 16; cut off: 'o pqrs tuvwxyz a b'"):
        generate(base, "a b c d e f g h i j k l m n o pqrs tuvwxyz a b", steps=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is a whole number from 1 to 1000, not 0"),
        ({"steps": 2.5}, "not 2.5"),
        ({"steps": 1000}, "takes fewer than 1000 steps"),
        ({"seed": -1}, "seed is a whole number"),
        ({"seed": 2**64}, "seed is a whole number"),
        ({"seed": 1.5}, "not 1.5"),
        ({"batch_size": 0}, "batch_size is a whole number of 1 or more, not 0"),
        ({"count": 1.5}, "count is a whole number"),
        ({"guidance": "9"}, "not '9'"),
        ({"size": 64}, "not 64"),
        ({"prompt": [1]}, "A prompt is a string"),
        ({"prompt": []}, "A prompt is a string"),
        ({"guidance": -1}, "guidance lies between 0 and 50, not -1"),
        ({"guidance": float("nan")}, "not nan"),
        ({"strength": 0}, "strength is above 0"),
        ({"strength": 1.5}, "strength lies between 0 and 1, not 1.5"),
        ({"size": (100, 64)}, r"multiples of 64 pixels .* not \(100, 64\); \(128, 64\) would be valid"),
        ({"size": (64, 0)}, "multiples of 64"),
        ({"count": 0}, "count is a whole number from 1 to 1000000, not 0"),
        ({"condition_in": "nowhere"}, "no condition_in 'nowhere'"),
        ({"resolution_weights": "normal"}, "did you mean 'normalised'"),
        ({"sampler": "dimm"}, "no sampler 'dimm'; did you mean 'ddim'"),
        ({"mask": Image.new("RGB", (64, 64))}, "give image= too"),
        ({"negative_prompt": None}, "A prompt is a string"),
    ],
)
def test_bad_settings_are_refused(base, settings, message) -> None:
    with pytest.raises(MaquetteError, match=message):
        run(base, **settings)


def test_a_condition_out_of_the_contract_s_range_is_refused(base, net, monkeypatch) -> None:
    masked = torch.where(CONDITION > 0.5, CONDITION, -1)  # as the published inpainting ControlNet's maps
    run(base, [Control(net, masked)], steps=1)
    monkeypatch.setattr(net, "contract", Contract(stated=True))
    with pytest.raises(MaquetteError, match="was trained on conditions from 0 to 1 and is given -1 to "):
        run(base, [Control(net, masked)])
    with pytest.raises(MaquetteError, match=r"holds values from 0 to 1 .*, not 0 to 255"):
        Control(net, (CONDITION > 0.5) * 255.0)


def test_a_condition_tensor_of_another_shape_is_refused(base, net) -> None:
    for shape in [(3, 64, 64), (1, 1, 64, 64), (2, 3, 64, 64), (1, 3, 32, 64)]:
        with pytest.raises(MaquetteError, match="condition tensor is"):
            run(base, [Control(net, torch.zeros(shape))])


@pytest.mark.parametrize("family", ["diorama", "sd21"])
def test_a_control_of_another_base_is_refused(base, family) -> None:
    other = ControlNet.attach(tiny_base(family))
    with pytest.raises(MaquetteError, match="Control 1 of 1 is made for another base"):
        run(base, [Control(other, CONDITION)])


def test_a_control_in_another_precision_is_refused(base) -> None:
    other = ControlNet.attach(base).bfloat16()
    with pytest.raises(MaquetteError, match=r"is in torch.bfloat16 on cpu, the base in torch.float32 .* net.to\("):
        run(base, [Control(other, CONDITION)])


def test_anything_but_a_control_is_refused(base, net) -> None:
    with pytest.raises(MaquetteError, match="not NoneType"):
        Control(net, None)
    with pytest.raises(MaquetteError, match=r"from 0 to 1 .*, not .* to 255"):
        Control(net, torch.full((1, 3, 64, 64), 255.0))
    with pytest.raises(MaquetteError, match="list of Control"):
        run(base, [net])
    alone = array(generate(base, "a", Control(net, CONDITION), steps=2))
    assert np.array_equal(alone, array(generate(base, "a", [Control(net, CONDITION)], steps=2)))


def test_half_precision_gives_nearly_the_same_image() -> None:
    base = tiny_base("sd15")
    full = run(base, guidance=1.0)
    base.autoencoder.to(torch.bfloat16)
    base.text.text_encoders[0].encoder.to(torch.bfloat16)
    base.backbone.unet.to(torch.bfloat16)
    net = randomise(ControlNet.attach(base))
    assert base.dtype == net.dtype == torch.bfloat16
    assert np.abs(run(base, guidance=1.0) - full).mean() < 6
    assert np.abs(run(base, [Control(net, CONDITION)], guidance=1.0) - full).max() > 5


def test_low_memory_keeps_only_the_active_parts_on_the_device(base, net, monkeypatch) -> None:
    controls = [Control(net, CONDITION)]
    expected = run(base, controls)
    there: set[str] = set()
    names = {
        base.text.text_encoders[0].encoder: "text",
        base.backbone.network: "unet",
        net: "net",
        base.autoencoder: "vae",
    }
    move = torch.nn.Module.to

    def watch(self, where, *args):
        if self in names:
            (there.add if where == torch.device("cpu:0") else there.discard)(names[self])
        return move(self, where, *args)

    monkeypatch.setattr(torch.nn.Module, "to", watch)
    monkeypatch.setattr(base, "execution_device", torch.device("cpu:0"))  # another device, as far as names go
    seen: dict[str, set[str]] = {}
    parts = {
        "encode": net.condition_encoder,
        "text": base.text.text_encoders[0].encoder,
        "unet": base.backbone.network.conv_out,
    }
    parts |= {"net": net.trainable_copy, "vae": base.autoencoder.decoder}
    hooks = [
        part.register_forward_pre_hook(lambda *_, name=name: seen.update({name: set(there)}))
        for name, part in parts.items()
    ]
    try:
        images = run(base, controls)
    finally:
        for hook in hooks:
            hook.remove()
    assert np.array_equal(images, expected)
    assert seen == {
        "text": {"text"},
        "encode": {"net"},
        "net": {"unet", "net"},
        "unet": {"unet", "net"},
        "vae": {"vae"},
    }
    assert not there
