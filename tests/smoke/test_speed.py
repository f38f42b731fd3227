"""Speed on the command line: a draft repeats, is finished in full, and an evaluation says which speed it measured."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maquette.sampling.metadata import Record

OPTIONS = ("--size", "64x64", "--seed", 4, "--prompt", "a b")


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def generated(maquette, base, net, image):
    """Generates with options into a file, and returns its settings as recorded."""
    options = ("--base", base, "--controlnet", net, *OPTIONS)

    def generate(name: str, *more) -> dict:
        code, _, err = maquette("generate", image, *options, *more, "-o", name)
        assert code == 0, err
        return Record.load(Path(name)).settings

    return generate


def test_a_draft_repeats_and_is_finished(maquette, generated) -> None:
    settings = generated("draft.png", "--speed", "draft")
    exact = generated("exact.png")
    assert settings["steps"] < exact["steps"]
    assert settings["guidance_interval"][1] < 1
    assert "speed" not in settings
    assert maquette("generate", "--again", "draft.png", "-o", "again.png")[0] == 0
    assert np.array_equal(pixels("again.png"), pixels("draft.png"))
    assert maquette("generate", "--again", "draft.png", "--set", "speed=exact", "-o", "finished.png")[0] == 0
    assert np.array_equal(pixels("finished.png"), pixels("exact.png"))
    assert Record.load(Path("finished.png")).settings == exact


def test_parts_override_a_speed_and_can_be_swept(maquette, generated) -> None:
    settings = generated(
        "own.png",
        "--speed",
        "balanced",
        "--steps",
        3,
        "--reuse",
        2,
        "--guidance-interval",
        "0.2-1",
        "--sampler",
        "ddim",
    )
    wanted = {"steps": 3, "reuse": 2, "guidance_interval": [0.2, 1.0], "sampler": "ddim"}
    assert wanted.items() <= settings.items()
    sweep = ("--sweep", "speed=exact,draft", "--sweep", "guidance_interval=0-0.5,0-1", "-o", "sheet.png")
    code, _, err = maquette("generate", "--again", "own.png", *sweep)
    assert code == 0, err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--speed", "drat"), "did you mean 'draft'"),
        (("--guidance-interval", "0.8"), "START-END, such as 0.1-0.8, not '0.8'"),
        (("--guidance-interval", "0.8-0.1"), "0 <= start < end <= 1"),
        (("--reuse", 11), "from 1 to 10, not 11"),
        (("--decoder", "tiny"), "has no tiny decoder"),
        (("--tiny-decoder", "nowhere"), "no tiny decoder in 'nowhere'"),
    ],
    ids=str,
)
def test_mistakes_are_one_sentence(maquette, base, net, image, options, message) -> None:
    code, _, err = maquette("generate", image, "--base", base, "--controlnet", net, *options, "-o", "out.png")
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not Path("out.png").exists()
