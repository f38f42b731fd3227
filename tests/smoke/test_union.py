"""A union ControlNet by the command line: described, converted, used, and used again from its record."""

import json
from pathlib import Path

import pytest
from diffusers import ControlNetUnionModel
from tests.conftest import tiny_base
from tests.tiny_union import published_union

from maquette.checkpoints import convert, load_base, load_controlnet
from maquette.checkpoints.save import save_base
from maquette.errors import MaquetteError
from maquette.sampling.metadata import Record
from maquette.training.config import TrainingConfig
from maquette.training.setup import open_networks

SHORT = ("--steps", 2, "--size", "128x128", "--device", "cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """A base, and a union whose config.json calls it a plain ControlNet, as published ones do."""
    home = tmp_path_factory.mktemp("union")
    base = tiny_base("sdxl", context=77)
    save_base(base, home / "base")
    published_union(base.backbone.unet).save_pretrained(home / "union")
    config = home / "union" / "config.json"
    values = json.loads(config.read_text())
    plain = {name: value for name, value in values.items() if not name.startswith("num_")}
    config.write_text(json.dumps({**plain, "_class_name": "ControlNetModel", "num_trans_head": 4}))
    return home / "base", home / "union"


def test_used_and_used_again(maquette, folders, image) -> None:
    base, union = folders
    controls = ("--control", f"canny:{image},net={union}", "--control", f"d:{image},map=yes,net={union},type=depth")
    code, _, err = maquette("generate", "--base", base, *controls, *SHORT, "-o", "made.png")
    assert code == 0, err
    assert [control.type for control in Record.load(Path("made.png")).controls] == ["canny", "depth"]
    code, _, err = maquette("generate", "--again", "made.png", "-o", "again.png")
    assert code == 0, err
    assert Record.load(Path("again.png")).pixels == Record.load(Path("made.png")).pixels
    code, _, err = maquette(
        "generate",
        image,
        "--map",
        "--condition",
        "sketch",
        "--controlnet",
        union,
        "--base",
        base,
        *SHORT,
        "-o",
        "x.png",
    )
    assert code != 0
    assert "'sketch' is none of them (type=): openpose/pose, depth" in err


def test_described_and_converted(maquette, folders) -> None:
    base, union = folders
    code, told, _ = maquette("info", union)
    assert code == 0
    assert "types       openpose/pose, depth, hed/pidi" in told
    convert.convert(union, "one.safetensors", "original")
    code, told, _ = maquette("info", "one.safetensors")
    assert code == 0
    assert "normal, segmentation" in told
    assert load_controlnet("one.safetensors", load_base(base, "cpu", "float32")).control.types == 6
    assert convert.largest_difference(union, "one.safetensors", base) == 0
    convert.convert("one.safetensors", "folder", "diffusers")
    _, report = ControlNetUnionModel.from_pretrained("folder", output_loading_info=True)
    assert not report["missing_keys"]


def test_not_trained(folders) -> None:
    base, union = folders
    config = TrainingConfig(condition="canny", base=str(base), start_from=str(union), output="run")
    with pytest.raises(MaquetteError, match="follows several kinds of condition, and training knows one"):
        open_networks(config, None, "cpu")
