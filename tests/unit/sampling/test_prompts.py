"""The automatic prompt: captions of exactly what the default prompt generates."""

import subprocess
import sys

import numpy as np
import pytest
from tests.conftest import tiny_base

import maquette as mq
from maquette.errors import MaquetteError
from maquette.evaluation.protocol import PROMPTS
from maquette.sampling.prompts import DEFAULT_PROMPT, automatic, check_captioner


def test_the_default_prompt_is_that_of_the_evaluation() -> None:
    assert PROMPTS["default"](["x"]) == [DEFAULT_PROMPT]


def test_captions_are_of_what_the_default_prompt_generates() -> None:
    base = tiny_base("sd15", context=77)
    settings = {"steps": 2, "seed": 5, "count": 2, "size": (64, 64), "guidance": 3.0}
    expected = mq.generate(base, DEFAULT_PROMPT, **settings)
    seen = []

    def captioner(images) -> list[str]:
        seen.extend(images)
        return [f"image {number}" for number in range(len(images))]

    assert automatic(base, [], captioner, **settings) == ["image 0", "image 1"]
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(seen, expected, strict=True))


def test_the_diorama_has_its_own_captioner() -> None:
    base = mq.load_base("diorama")
    scene = mq.diorama.scene(20_000_001)
    control = mq.Control(mq.load_controlnet("diorama/depth", base), mq.Detector("diorama/depth", device="cpu")(scene))
    settings = {"steps": 5, "seed": 1, "guidance": 2.0}
    images = mq.generate(base, DEFAULT_PROMPT, control, **settings)
    prompts = automatic(base, control, **settings)
    assert prompts == mq.Detector("diorama/caption", device="cpu")(images)
    assert any(kind in prompts[0] for kind in ("house", "person"))


def test_a_captioner_writes_text() -> None:
    assert check_captioner(None, "diorama") == "diorama/caption"
    assert check_captioner(None, "runs/mine") == "caption"
    assert check_captioner("diorama/caption", "runs/mine") == "diorama/caption"
    with pytest.raises(MaquetteError, match="canny draws maps; give one of caption, diorama/caption"):
        check_captioner("canny", "diorama")
    with pytest.raises(MaquetteError, match="There is no detector 'captions'; did you mean 'caption'"):
        check_captioner("captions", "diorama")


def test_without_blip_one_sentence_says_so_before_anything_is_generated(monkeypatch, tmp_path) -> None:
    """As offline on a machine that never downloaded it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("maquette.sampling.generate.generate", None)
    with pytest.raises(MaquetteError, match=r"caption needs .* of Salesforce/blip-image-captioning-base .* not"):
        automatic(tiny_base("sd15"), [])


def test_the_modes_are_known_without_torch() -> None:
    code = "import sys, maquette.sampling.prompts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
