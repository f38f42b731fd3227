"""A folder of one's own: every broken row is named, picture and condition keep to one frame."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from maquette.cli.main import app
from maquette.data.check import check
from maquette.data.folder import Columns, find_rows
from maquette.data.framing import Framing
from maquette.data.rows import Example, read
from maquette.errors import MaquetteError


def picture(size: tuple[int, int] = (96, 64), seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.fixture
def write(tmp_path):
    """A folder with pictures and the lines of its metadata.jsonl."""

    def make(*rows: dict | str, names=("1.png", "edges/1.png")) -> Path:
        (tmp_path / "edges").mkdir(exist_ok=True)
        for name in names:
            picture().save(tmp_path / name)
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        (tmp_path / "metadata.jsonl").write_text("\n".join(lines) + "\n")
        return tmp_path

    return make


def row(name: str = "1.png", condition: str = "edges/1.png", text: str = "a red house") -> dict:
    return {"file_name": name, "conditioning_image": condition, "text": text}


def test_the_two_layouts(write, tmp_path) -> None:
    (found,), faults = find_rows(write(row()))
    assert not faults
    assert (found.picture, found.condition) == (tmp_path / "1.png", tmp_path / "edges/1.png")
    assert found.where == f"{tmp_path / 'metadata.jsonl'}:1"
    assert read(found).text == "a red house"
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "prompt.json").write_text('{"source": "edges/1.png", "target": "1.png", "prompt": "a disc"}\n')
    assert find_rows(tmp_path)[0][0].picture == tmp_path / "1.png"


def test_columns_are_named_never_guessed(write) -> None:
    folder = write({"image": "1.png", "edge": "edges/1.png", "caption": "a"})
    with pytest.raises(MaquetteError, match=r"has no 'file_name' \(it has: 'image', 'edge', 'caption'\)"):
        find_rows(folder)
    assert len(find_rows(folder, Columns("image", "edge", "caption"))[0]) == 1
    assert find_rows(folder, Columns("image", None, "caption"))[0][0].condition is None


def test_a_folder_that_holds_no_data(tmp_path) -> None:
    with pytest.raises(MaquetteError, match=r"holds no metadata\.jsonl and no prompt\.json; write"):
        find_rows(tmp_path)
    (tmp_path / "metadata.jsonl").write_text("")
    with pytest.raises(MaquetteError, match="holds no row that can be read"):
        find_rows(tmp_path)


def test_every_trouble_is_named_with_its_row(write, tmp_path) -> None:
    odd = "ein rotes Haus 红.png"
    folder = write(
        row(),  # 1: sound
        row("empty.png"),
        row("truncated.png"),
        row("cmyk.jpg"),
        row("deep.png"),
        row("animated.gif"),
        row("dot.png"),
        row("tall.png"),
        row(condition="edges/absent.png"),
        '{"file_name": "1.png", "conditioning',
        row(odd),
        row(text=" "),
        {"file_name": "1.png", "text": "a"},
        {"file_name": 1, "conditioning_image": "edges/1.png", "text": "a"},
    )
    (tmp_path / "empty.png").write_bytes(b"")
    picture((400, 300)).save(tmp_path / "truncated.png")
    whole = (tmp_path / "truncated.png").read_bytes()
    (tmp_path / "truncated.png").write_bytes(whole[: len(whole) // 2])
    picture().convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(np.full((64, 96), 40_000, np.uint16)).save(tmp_path / "deep.png")
    picture().save(tmp_path / "animated.gif", save_all=True, append_images=[picture(seed=1)])
    picture((1, 1)).save(tmp_path / "dot.png")
    picture((64, 96)).save(tmp_path / "tall.png")
    picture().save(tmp_path / odd)
    report = check(folder, Framing((128, 64)))
    unusable = {int(fault.where.rsplit(":", 1)[1]): fault.reason for fault in report.faults}
    expected = {
        2: "is not a picture",
        3: "is broken",
        7: "is 1×1; a picture has 32 pixels or more",
        8: "they do not show the same frame",
        9: "There is no picture at .*absent",
        10: "is not JSON",
        13: "has no 'conditioning_image'",
        14: "'file_name' is not a text but 1",
    }
    assert unusable.keys() == expected.keys()
    assert all(re.search(words, unusable[line]) for line, words in expected.items())
    noted = {int(note.split(".jsonl:")[1].split(":")[0]): note for note in report.notes}
    expected = {4: "CMYK", 5: "more than 8 bits", 6: "2 frames; the first is taken", 11: "a name with", 12: "is empty"}
    assert noted.keys() == expected.keys()
    assert all(words in noted[line] for line, words in expected.items())
    assert report.usable == 6
    assert report.frames == {(128, 64): 6}
    assert report.grid is not None


def test_the_command(write, tmp_path) -> None:
    folder = write(row(), row("absent.png"))
    result = CliRunner().invoke(app, ["data", "check", str(folder), "--size", "64", "-o", str(tmp_path / "grid.png")])
    assert result.exit_code == 1
    assert "metadata.jsonl:2: There is no picture" in result.output
    assert "1 rows can be used, 1 cannot." in result.output
    assert (tmp_path / "grid.png").is_file()
    with pytest.raises(MaquetteError, match="--size is WIDTHxHEIGHT"):
        CliRunner().invoke(app, ["data", "check", str(folder), "--size", "big"], catch_exceptions=False)


def marked(size: tuple[int, int]) -> Image.Image:
    """Red grows along x, green along y."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("size", [(320, 200), (200, 320)])
@pytest.mark.parametrize("buckets", [False, True])
def test_picture_and_condition_keep_to_one_frame(size, buckets) -> None:
    """Cut at random and mirrored, and the condition at another scale: the same place in both."""
    example = Example(marked(size), marked((size[0] // 2, size[1] // 2)), "")
    framing = Framing((128, 128), buckets, crop="random", flip=0.5)
    seen = set()
    for seed in range(20):
        framed = framing.frame(example, np.random.default_rng(seed))
        assert framed.picture.size == framed.condition.size == framing.shape(size)
        apart = np.asarray(framed.picture, int) - np.asarray(framed.condition, int)
        assert np.abs(apart).max() <= 4
        seen.add(framed.picture.tobytes())
    assert len(seen) > 2


def test_classes_are_never_mixed() -> None:
    values = np.random.default_rng(0).choice([0, 100, 200], (90, 90, 3)).astype(np.uint8)
    framed = Framing((64, 64), categorical=True).frame(
        Example(picture((90, 90)), Image.fromarray(values), ""), np.random.default_rng(0)
    )
    assert set(np.unique(np.asarray(framed.condition))) <= {0, 100, 200}


def test_buckets_have_about_one_area_and_every_shape() -> None:
    framing = Framing((512, 512), buckets=True)
    shapes = framing.shapes()
    assert (512, 512) in shapes
    assert all(0.8 * 512**2 <= w * h <= 512**2 and w % 64 == h % 64 == 0 for w, h in shapes)
    assert framing.shape((1000, 1000)) == (512, 512)
    assert framing.shape((3000, 2000)) == (640, 384)
    wide, tall = framing.shape((5000, 1000)), framing.shape((1000, 5000))
    assert (wide, tall) == ((768, 320), (320, 768))


def test_frames_that_cannot_be() -> None:
    with pytest.raises(MaquetteError, match="multiples of 64 pixels, not 100×64"):
        Framing((100, 64))
    with pytest.raises(MaquetteError, match="flip is a share"):
        Framing(flip=2)
    with pytest.raises(MaquetteError, match="'centre' or 'random', not 'left'"):
        Framing(crop="left")
