"""`maquette evaluate --data`: any ControlNet on a user's own pairs, with all judges on random weights."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import randomise, tiny_base
from tests.own_pairs import write_pairs
from tests.unit.conditions.tiny_models import write_tiny
from tests.unit.metrics.tiny_judges import write_clip, write_head, write_inception
from typer.testing import CliRunner

import maquette as mq
from maquette.checkpoints.save import save_base
from maquette.cli.main import app
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.images import fit
from maquette.sampling.prompts import DEFAULT_PROMPT

QUICK = ["--base", "base", "--steps", "1", "--size", "64", "-o", "out"]


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path) -> Path:
    """A folder with a base, a fresh ControlNet and one on random weights."""
    monkeypatch.chdir(tmp_path)
    base = tiny_base("sd15", context=200)
    save_base(base, tmp_path / "base")
    mq.ControlNet.attach(base).save("fresh")
    randomise(mq.ControlNet.attach(base)).save("net")
    return tmp_path


def evaluate(*arguments: str) -> dict:
    result = CliRunner().invoke(app, ["evaluate", *arguments, *QUICK], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(Path("out", f"{arguments[0]}.json").read_text())


def write_class_maps(folder: Path, count: int) -> None:
    """Pairs whose conditions are numbers of ADE20K's classes, 0 for none; every other image is a JPEG."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = []
    for number in range(count):
        image, label = f"{number}.{('png', 'jpg')[number % 2]}", f"{number}-classes.png"
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / image)
        blocks = rng.choice([0, 1, 5, 90], (4, 4)).astype(np.uint8)
        Image.fromarray(np.kron(blocks, np.ones((16, 16), np.uint8))).save(folder / label)
        lines.append(json.dumps({"file_name": image, "conditioning_image": label, "text": "a b c d"[: number % 7 + 1]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))


def test_a_fresh_controlnet_scores_as_none_and_the_page_holds_everything() -> None:
    write_pairs(Path("pairs"), 4)
    report = evaluate("fresh", "--data", "pairs", "--condition", "canny", "--detect", "--option", "low=50")
    assert report["controlled"] == report["uncontrolled"]
    assert list(report["controlled"]) == ["true", "default", "none", "conflicting"]
    found = report["measures"]["SSIM"]
    assert found["controlled"] == found["uncontrolled"] and found["better"] == "higher"
    assert -0.1 < found["floor"] < found["ceiling"] <= 1
    setup = report["setup"]
    assert setup["data"]["detector options"] == "low=50" and setup["data"]["image files"] == "PNG 4"
    assert len(setup["base"]["hash"]) == len(setup["controlnet"]["hash"]) == 64
    assert {"maquette", "torch", "numpy"} <= set(setup["versions"])
    page = Path("out/fresh.html").read_text()
    assert page.count("<img") == 4 * (2 + 2 * 4)
    assert all(source.startswith("data:image/jpeg") for source in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert setup["base"]["hash"] in page and setup["base"]["hash"] in Path("out/fresh.md").read_text()
    header, *rows = csv.reader(Path("out/fresh.csv").read_text().splitlines())
    assert header == ["pairs", "prompt", "with control", "without", "SSIM", "SSIM, without", "text"]
    assert [row[-1] for row in rows if row[1] == "conflicting"] == ["b", "c", "d", "a"]


def test_the_paper_s_protocol_on_class_maps(here) -> None:
    """Segmentation again by OneFormer, FID, KID, CLIP score and aesthetic score."""
    write_class_maps(here / "ade20k", 32)
    with pytest.warns(MaquetteWarning, match="32 images leave a covariance of 64 features singular"):
        report = evaluate(
            *(
                "net",
                "--data",
                "ade20k",
                "--condition",
                "segmentation",
                "--palette",
                "ade20k",
                "--prompts",
                "true,none",
            ),
            *("--detector-weights", str(write_tiny("oneformer", here / "oneformer"))),
            *("--inception", str(write_inception(here / "inception.pth")), "--inception-features", "64"),
            *("--clip", str(write_clip(here / "clip"))),
            *("--aesthetic", str(write_head(here / "head.pth", 8)[0])),
        )
    measures, sets, judges = report["measures"], report["sets"], report["setup"]["judges"]
    assert set(measures) == {
        *("mean IoU, black aside", "pixel accuracy, black aside", "CLIP score", "aesthetic score"),
    }
    assert measures["CLIP score"]["controlled"]["none"]["mean"] is None  # of an empty prompt
    assert 0 < measures["CLIP score"]["controlled"]["true"]["mean"] < 1
    for name in ("FID (64 features)", "KID (64 features)"):
        spread = sets[name]["controlled"]["true"]
        assert spread["low"] < spread["mean"] < spread["high"]
        assert sets[name]["controlled"] != sets[name]["uncontrolled"]
    assert report["setup"]["data"]["image files"] == "JPEG 16, PNG 16"
    assert all(len(judges[key]) == 64 for key in ("inception SHA-256", "clip hash", "aesthetic SHA-256"))
    assert "FID (64 features) (lower is better)" in Path("out/net.md").read_text()


def test_automatic_prompts_are_captions_of_what_the_default_prompt_generates(here) -> None:
    write_pairs(here / "pairs", 3)
    blip = write_tiny("caption", here / "blip")
    prompts = ["--prompts", "automatic,default", "--captioner", str(blip)]
    evaluate("net", "--data", "pairs", "--condition", "canny", *prompts)
    rows = list(csv.DictReader(Path("out/net.csv").read_text().splitlines()))
    texts = [row["text"] for row in rows if row["prompt"] == "automatic"]
    base = mq.load_base("base", device="cpu")
    maps = [Image.open(f"pairs/maps/{number}.png") for number in range(3)]
    control = mq.Control(mq.load_controlnet("net", base), [fit(one, (64, 64), "lines") for one in maps])

    images = mq.generate(base, [DEFAULT_PROMPT] * 3, control, steps=1, batch_size=32, record=False)
    assert texts == [str(text) for text in mq.Detector("caption", str(blip), device="cpu")(images)]


def test_poses_are_compared_by_their_people(here) -> None:
    """The diorama's detector, which needs no download: OKS and PCK against the people in the pairs' own images."""
    (here / "pairs").mkdir()
    seeds = [seed for seed in range(300, 340) if len(mq.diorama.scene(seed).keypoints)][:3]
    for seed in seeds:
        mq.diorama.scene(seed).image.save(here / "pairs" / f"{seed}.png")
    with pytest.warns(MaquetteWarning, match=r"holds only images|no texts, so the kinds of prompt are default, none"):
        report = evaluate("net", "--data", "pairs", "--condition", "diorama/pose", "--detect")
    assert list(report["controlled"]) == ["default", "none"]
    measures = report["measures"]
    assert {"OKS", "PCK at 0.1"} <= set(measures)
    assert measures["OKS"]["ceiling"] >= measures["OKS"]["floor"]


MISTAKES = {
    "--condition spirals": r"No detector is called 'spirals', so nothing finds .* \(--detector scribble\)",
    "--condition caption": "There is no metric for maps of 'caption'; name another detector",
    "--condition canny --inception inception.pth": "2048 dimensions, which 4 images say nothing of: give 1024",
    "--condition canny --prompts automatic": "caption needs .* of Salesforce/blip-image-captioning-base",
    "": "'net' does not tell what condition it was trained on; give --condition.",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_what_cannot_be_measured_is_told_in_a_sentence(arguments, here, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(here))
    write_pairs(here / "pairs", 4)
    if "inception" in arguments:
        write_inception(here / "inception.pth")
    with pytest.raises(MaquetteError, match=MISTAKES[arguments]):
        CliRunner().invoke(
            app, ["evaluate", "net", "--data", "pairs", *arguments.split(), *QUICK], catch_exceptions=False
        )


def test_prompts_without_pictures_are_told(here) -> None:
    (here / "texts").mkdir()
    (here / "texts" / "metadata.jsonl").write_text('{"text": "a house"}\n{"text": "a tree"}\n')
    (here / "gone").mkdir()
    (here / "gone" / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "a house"}\n')
    command = ["evaluate", "net", "--condition", "canny", "--detect", *QUICK]
    with pytest.raises(MaquetteError, match=r"holds no row that can be read. Its first line has no 'file_name'"):
        CliRunner().invoke(app, [*command, "--data", "texts"], catch_exceptions=False)
    with pytest.raises(MaquetteError, match=r"takes 2 pairs or more, and 0 of 1 can be read. .* There is no image"):
        CliRunner().invoke(app, [*command, "--data", "gone"], catch_exceptions=False)
