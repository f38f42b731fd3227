"""Painting in by the command line: a picture and a mask, written down, and made again from the record."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tiny_qwen import published, tiny_qwen
from tests.tiny_zimage import published as published_zimage
from tests.tiny_zimage import tiny_zimage

import maquette as mq
from maquette.checkpoints.save import save_base
from maquette.sampling.metadata import Record, record_of, unpack

SHORT = ("--steps", 2, "--size", "64x64", "--device", "cpu", "--prompt", "a red house")


@pytest.fixture(scope="module", params=["qwen", "zimage"])
def folders(request, tmp_path_factory) -> tuple[Path, Path]:
    """A base, and a ControlNet on it that paints in."""
    home = tmp_path_factory.mktemp("painting")
    base = tiny_qwen() if request.param == "qwen" else tiny_zimage()
    save_base(base, home / "base")
    network = base.backbone.network
    net = (
        published(network, 2, extra_condition_channels=4)
        if request.param == "qwen"
        else published_zimage(network, "2.1")
    )
    net.save_pretrained(home / "net")
    return home / "base", home / "net"


@pytest.fixture
def pictures(tmp_path) -> tuple[Path, Path]:
    """A picture and a mask, at the size of the images."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 0, 64, 40))
    picture.save(tmp_path / "street.png")
    mask.save(tmp_path / "mask.png")
    return tmp_path / "street.png", tmp_path / "mask.png"


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), np.int16)


def test_painted_as_by_the_library_and_made_again(maquette, folders, pictures) -> None:
    base, net = folders
    picture, mask = pictures
    options = ("--base", base, "--controlnet", net, *SHORT)
    code, _, err = maquette("generate", picture, "--paint", mask, *options, "-o", "made.png")
    assert code == 0, err
    record = Record.load(Path("made.png"))
    assert record.controls[0].to_paint().getbbox() == (16, 0, 64, 40)
    assert not record.unrecorded
    loaded = mq.load_base(base, device="cpu")
    control = mq.Control(mq.load_controlnet(net, loaded), mq.to_paint(picture, mask))
    (image,) = mq.generate(loaded, "a red house", control, steps=2, size=(64, 64))
    assert np.array_equal(np.asarray(image, np.int16), pixels("made.png"))
    code, _, err = maquette("generate", "--again", "made.png", "-o", "again.png")
    assert code == 0, err
    assert np.array_equal(pixels("again.png"), pixels("made.png"))
    code, _, err = maquette(
        "generate", "--base", base, "--control", f"x:{picture},net={net},paint={mask}", *SHORT, "-o", "x.png"
    )
    assert code == 0, err
    assert np.array_equal(pixels("x.png"), pixels("made.png"))
    mq.save(image, "saved.png")
    assert Record.load(Path("saved.png")).controls[0].paint == record.controls[0].paint


def test_painted_along_a_map_and_made_again(maquette, folders, pictures) -> None:
    """By a ControlNet whose condition holds both; one that only paints in says so."""
    base, net = folders
    picture, mask = pictures
    control = f"canny:{picture},net={net},paint={mask},picture={picture}"
    code, _, err = maquette("generate", "--base", base, "--control", control, *SHORT, "-o", "both.png")
    if not (net / "config.json").read_text().count("ZImage"):
        assert code != 0
        assert "A condition tensor is (1 or 1, 3, height, width)" in err
        return
    assert code == 0, err
    record = Record.load(Path("both.png")).controls[0]
    assert record.image() != unpack(record.picture)
    code, _, err = maquette("generate", "--again", "both.png", "-o", "again.png")
    assert code == 0, err
    assert np.array_equal(pixels("again.png"), pixels("both.png"))
    code, _, err = maquette(
        "generate", "--base", base, "--control", f"canny:{picture},net={net},picture={picture}", *SHORT
    )
    assert code != 0
    assert "picture is painted in where paint=MASK is white" in err


def test_what_does_not_fit_is_said_in_one_sentence(maquette, folders, pictures) -> None:
    base, net = folders
    picture, mask = pictures
    code, _, err = maquette("generate", picture, "--paint", mask, "--base", base, *SHORT)
    assert code != 0
    assert "paint is for a ControlNet that paints in, and none is named" in err
    code, _, err = maquette("generate", picture, "--paint", mask, "--map", "--base", base, "--controlnet", net, *SHORT)
    assert code != 0
    assert "An image to paint in is taken as it is" in err
    mq.ControlNet.attach(mq.load_base(base, device="cpu")).save("plain")
    code, _, err = maquette("generate", picture, "--paint", mask, "--base", base, "--controlnet", "plain", *SHORT)
    assert code != 0
    assert "use a ControlNet that paints in" in err


def test_a_picture_finer_than_256_levels_is_not_recorded(folders) -> None:
    base, net = folders
    loaded = mq.load_base(base, device="cpu")
    condition = torch.rand(1, 3, 64, 64)
    condition[..., :32] = -1
    (image,) = mq.generate(loaded, "a", mq.Control(mq.load_controlnet(net, loaded), condition), steps=1)
    assert "the condition of control 1" in record_of(image).unrecorded[0]
