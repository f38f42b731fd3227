"""A record makes its image again, or says why it does not: whatever changed, wherever the image came from."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from tests.conftest import randomise, tiny_base

import maquette as mq
from maquette.checkpoints.save import save_base
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError
from maquette.sampling import generate as sampling
from maquette.sampling.metadata import KEY, Record


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.int16)


def rewritten(path: Path, **changes: object) -> None:
    """Change what a PNG's record says."""
    with Image.open(path) as image:
        values = {**json.loads(image.info[KEY]), **changes}
        info = PngImagePlugin.PngInfo()
        info.add_text(KEY, json.dumps({key: value for key, value in values.items() if value is not None}))
        image.load()
        image.save(path, pnginfo=info)


@pytest.fixture
def own(base, net, tmp_path) -> tuple[Path, Path]:
    """Copies of a base and a ControlNet, which a test may change."""
    shutil.copytree(base, tmp_path / "base")
    shutil.copytree(net, tmp_path / "net")
    return tmp_path / "base", tmp_path / "net"


@pytest.fixture
def made(maquette, own, image, tmp_path) -> Path:
    """An image generated with them."""
    options = ("--base", "base", "--controlnet", "net", "--steps", 2, "--size", "64x64", "--seed", 4)
    code, _, err = maquette("generate", image, *options, "--prompt", "a b", "-o", "made.png")
    assert code == 0, err
    image.unlink()  # the record is enough
    return tmp_path / "made.png"


def test_the_same_bits(maquette, made) -> None:
    code, out, err = maquette("generate", "--again", made, "-o", "again.png")
    assert (code, out.strip(), "Note" in err) == (0, "again.png", False), err
    assert np.array_equal(pixels(made), pixels("again.png"))
    assert Record.load(made) == Record.load(Path("again.png"))


def test_another_controlnet_of_that_name_is_refused(maquette, made, own) -> None:
    net = randomise(ControlNet.attach(mq.load_base(own[0], "cpu", "float32")), seed=8)
    net.save(own[1])
    code, _, err = maquette("generate", "--again", made, "-o", "again.png")
    assert (code, "the ControlNet 'net' has changed since" in err) == (2, True)
    assert not Path("again.png").exists()
    code, _, err = maquette("generate", "--again", made, "-o", "again.png", "--anyway")
    assert code == 0, err
    assert not np.array_equal(pixels(made), pixels("again.png"))
    assert "differs from" in err


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "scheduler"])
def test_another_base_of_that_name_is_refused(maquette, made, own, part) -> None:
    other = tiny_base("diorama", "epsilon" if part == "scheduler" else "v_prediction", seed=1, context=96)
    save_base(other, own[0].parent / "other")
    shutil.rmtree(own[0] / part)
    shutil.copytree(own[0].parent / "other" / part, own[0] / part)
    code, _, err = maquette("generate", "--again", made)
    assert (code, "the base 'base' has changed since" in err) == (2, True), err


def test_networks_may_move(maquette, made, own, tmp_path) -> None:
    """The hash is of the weights, not of a path."""
    own[1].rename(tmp_path / "moved")
    code, _, err = maquette("generate", "--again", made, "-o", "again.png")
    assert (code, "There is no ControlNet 'net'" in err, "--set controlnet=" in err) == (2, True, True)
    code, _, err = maquette("generate", "--again", made, "-o", "again.png", "--set", "controlnet=moved")
    assert code == 0, err
    assert np.array_equal(pixels(made), pixels("again.png"))


def test_one_of_several_is_computed_alone(maquette, base, net, image, tmp_path, monkeypatch) -> None:
    options = ("--base", base, "--controlnet", net, "--steps", 2, "--size", "64x64", "--seed", 4, "--count", 3)
    assert maquette("generate", image, *options, "-o", "made.png")[0] == 0
    rows = []
    noise = sampling._noise

    def counted(base: object, sources: list[torch.Generator], size: tuple[int, int]) -> torch.Tensor:
        rows.append(len(sources))
        return noise(base, sources, size)

    monkeypatch.setattr(sampling, "_noise", counted)
    code, _, err = maquette("generate", "--again", "made-2.png", "-o", "again.png")
    assert code == 0, err
    assert rows == [1]
    assert np.abs(pixels("made-2.png") - pixels("again.png")).max() <= 1
    record = Record.load(tmp_path / "made-2.png")
    assert (record.settings["seed"], record.settings["count"], record.number) == (5, 1, 0)


def test_settings_are_varied(maquette, made, own, tmp_path) -> None:
    code, _, err = maquette(
        "generate", "--again", made, "--set", "seed=7", "--set", "weight=0.5", "--set", "prompt=c", "-o", "varied.png"
    )
    assert code == 0, err
    Image.fromarray(np.asarray(Record.load(made).controls[0].image())).save("map.png")
    options = ("--base", "base", "--controlnet", "net", "--steps", 2, "--size", "64x64", "--map", "--prompt", "c")
    assert maquette("generate", "map.png", *options, "--seed", 7, "--weight", 0.5, "-o", "direct.png")[0] == 0
    assert np.array_equal(pixels("varied.png"), pixels("direct.png"))
    assert Record.load(tmp_path / "varied.png") == Record.load(tmp_path / "direct.png")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sede=1", "There is no setting to vary 'sede'; did you mean 'seed'?"),
        ("seed", "--set is NAME=VALUE, each name once, such as seed=7, not 'seed'."),
        ("steps=0", "steps is a whole number from 1 to 1000, not 0."),
        ("weight.2=1", "Controls are numbered from 1 to 1; there is no weight.2."),
        ("weight=-1", "weight is a number from 0 to 10"),
    ],
)
def test_mistakes_in_settings(maquette, made, setting, message) -> None:
    code, _, err = maquette("generate", "--again", made, "--set", setting)
    assert (code, message in err) == (2, True), err


def test_a_sweep_over_a_record(maquette, made) -> None:
    code, out, err = maquette("generate", "--again", made, "--sweep", "weight=0,1", "--keep-images", "-o", "sheet.png")
    assert (code, out.split()) == (0, ["sheet-1.png", "sheet-2.png", "sheet.png"]), err
    assert np.array_equal(pixels("sheet-2.png"), pixels(made))


def test_records_of_earlier_versions(maquette, made, tmp_path) -> None:
    """Image `number` of a generation of several, without hashes."""
    new = Record.load(made)
    settings = {key: new.settings[key] for key in ("negative_prompt", "steps", "guidance", "condition_in", "sampler")}
    old = {
        "base": "base",
        "prompt": "a b",
        "dtype": "float32",
        "settings": {**settings, "seed": 3, "count": 2, "size": [64, 64]},
        "controls": [{"controlnet": "net", "map": new.controls[0].map, "weight": 1.0, "start": 0.0, "end": 1.0}],
        "number": 1,
        "device": "cpu",
    }
    info = PngImagePlugin.PngInfo()
    info.add_text(KEY, json.dumps(old))
    Image.new("RGB", (64, 64)).save("old.png", pnginfo=info)
    code, _, err = maquette("generate", "--again", "old.png", "-o", "again.png")
    assert code == 0, err
    assert "its weights cannot be checked" in err
    assert np.array_equal(pixels("again.png"), pixels(made))


def test_other_versions_are_a_note(maquette, made) -> None:
    rewritten(made, versions={**Record.load(made).versions, "torch": "1.0"})
    code, _, err = maquette("generate", "--again", made)
    assert (code, "was generated with torch 1.0, not 2" in err) == (0, True), err


def test_a_changed_map_is_noticed(maquette, made) -> None:
    with Image.open(made) as image:
        controls = json.loads(image.info[KEY])["controls"]
    rewritten(made, controls=[{**controls[0], "map_hash": "0" * 64}])
    code, _, err = maquette("generate", "--again", made)
    assert (code, "does not say how it was made" in err) == (2, True)


def test_images_from_python(maquette, own, tmp_path) -> None:
    """Everything that a call can hold: two controls of all settings, a start image, a mask, another prompt each."""
    base = mq.load_base("base", "cpu", "float32")
    net = mq.load_controlnet("net", base)
    scene = mq.diorama.scene(7).image
    left = Image.new("L", scene.size)
    left.paste(255, (0, 0, 64, 128))
    controls = [
        mq.Control(net, mq.detect("canny", scene), weight=0.8, end=0.5, mask=left),
        mq.Control(
            net, [scene, left.convert("RGB")], balance="prompt", curve=[(0.0, 1.0), (1.0, 0.2)], branch="conditional"
        ),
    ]
    images = mq.generate(
        base, ["a", "b"], controls, negative_prompt="c", steps=3, guidance=3.0, seed=2, size=(64, 64), image=scene,
        mask=left, strength=0.8, batch_size=1,
    )  # fmt: skip
    for number, image in enumerate(images):
        mq.save(image, f"{number}.png")
        code, _, err = maquette("generate", "--again", f"{number}.png", "-o", f"again-{number}.png")
        assert (code, "Note" in err) == (0, False), err
        assert np.array_equal(pixels(f"again-{number}.png"), np.asarray(image, np.int16))
    with Image.open("0.png") as image:
        mq.save(image, "copy.png")  # an image read from its file still carries its record
    assert Record.load(Path("copy.png")) == Record.load(Path("0.png"))
    with torch.no_grad():
        net.zero_convs[0].weight.add_(1)
    mq.save(mq.generate(base, "a", mq.Control(net, scene), steps=1, size=(64, 64))[0], "tuned.png")
    code, _, err = maquette("generate", "--again", "tuned.png")
    assert (code, "the ControlNet 'net' has changed since" in err) == (2, True)


def test_what_cannot_be_recorded_is_said(maquette, own) -> None:
    base = mq.load_base("base", "cpu", "float32")
    fine = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    control = mq.Control(randomise(ControlNet.attach(base)), fine, curve=lambda done: 1 - done)
    mq.save(mq.generate(base, "a", control, steps=1)[0], "made.png")
    code, _, err = maquette("generate", "--again", "made.png")
    assert code == 2
    for part in ("the ControlNet of control 1, which came from no file", "a function", "finer than the 256 levels"):
        assert part in err


@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_other_formats_have_their_record_beside_them(maquette, made, ending) -> None:
    code, _, err = maquette("generate", "--again", made, "-o", f"other.{ending}")
    assert code == 0, err
    with Image.open(f"other.{ending}") as written:
        assert written.format == {"jpg": "JPEG", "webp": "WEBP"}[ending]
    code, _, err = maquette("generate", "--again", f"other.{ending}", "-o", "again.png")
    assert code == 0, err
    assert np.array_equal(pixels("again.png"), pixels(made))
    Path(f"other.{ending}.json").unlink()
    code, _, err = maquette("generate", "--again", f"other.{ending}")
    assert (code, f"with its other.{ending}.json beside it" in err) == (2, True)


def test_save_refuses_what_its_record_would_not_make(base, tmp_path) -> None:
    image = mq.generate(mq.load_base(base, "cpu", "float32"), "a", steps=1, size=(64, 64))[0]
    for other, message in (
        (image.resize((32, 32)), "was changed after it was generated"),
        (Image.new("RGB", (8, 8)), "carries no record"),
    ):
        with pytest.raises(MaquetteError, match=message):
            mq.save(other, tmp_path / "x.png")
    with pytest.raises(MaquetteError, match=r"Images are written as \.png"):
        mq.save(image, tmp_path / "x.gif")
    assert list(tmp_path.iterdir()) == []


def test_images_carry_no_record_where_none_is_asked_for() -> None:
    base = tiny_base("sd15")
    assert "maquette" in mq.generate(base, "a", steps=1, size=(64, 64))[0].info
    assert "maquette" not in mq.generate(base, "a", steps=1, size=(64, 64), record=False)[0].info
