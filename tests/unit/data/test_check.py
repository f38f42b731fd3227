"""Checking a data set: every broken row is reported, in every format."""

import re

import numpy as np
import pytest
from PIL import Image
from tests.unit.data.conftest import as_folder, as_parquet, as_tar, encoded, image, kept
from typer.testing import CliRunner

from maquette.cli.main import app
from maquette.data import check as module
from maquette.data.check import check
from maquette.data.crop import ResizeCrop
from maquette.data.sources.jsonl import read
from maquette.data.sources.open import open_source
from maquette.errors import MaquetteError

WHOLE = encoded(image((400, 300)))
ODD = {
    1: {"image": b""},
    2: {"image": WHOLE[: len(WHOLE) // 2]},
    3: {"image": encoded(image().convert("CMYK"), "JPEG")},
    4: {"image": encoded(Image.fromarray(np.full((64, 96), 40_000, np.uint16)))},
    5: {"image": encoded(image(), "GIF", save_all=True, append_images=[image(seed=1)])},
    6: {"image": encoded(image((1, 1)))},
    7: {"image": encoded(image((64, 96)))},
    8: {"condition": b"words"},
    9: {"text": " "},
}
PAIRS = [{**kept(number), **ODD.get(number, {})} for number in range(11)]
STORED = {
    "folder": lambda folder: as_folder(PAIRS, folder / "pairs"),
    "parquet": lambda folder: as_parquet(PAIRS, folder / "pairs.parquet"),
    "tar": lambda folder: as_tar(PAIRS, folder / "pairs.tar", first=0),
}


@pytest.mark.parametrize("kind", STORED)
def test_every_fault_is_reported_with_its_row(kind, tmp_path) -> None:
    report = check(open_source(STORED[kind](tmp_path)), ResizeCrop((128, 64)))
    first = 1 if kind == "folder" else 0  # lines are counted from 1

    def number(place: str) -> int:
        return int(re.search(r"pairs[/.\w]*:(\d+)", place)[1]) - first

    unusable = {number(fault.where): fault.reason for fault in report.faults}
    expected = {
        1: "is not an image",
        2: "is broken",
        6: "is 1×1; an image has 32 pixels or more",
        7: "they do not show the same frame",
        8: "is not an image",
    }
    assert unusable.keys() == expected.keys()
    assert all(re.search(reason, unusable[row]) for row, reason in expected.items())
    noted = {number(note): note for note in report.notes}
    expected = {3: "CMYK", 4: "more than 8 bits", 5: "2 frames; only the first is used", 9: "is empty"}
    assert noted.keys() == expected.keys()
    assert all(note in noted[row] for row, note in expected.items())
    assert report.usable == 6
    assert report.frames == {(128, 64): 6}
    assert "6 rows can be used, 5 cannot." in str(report)


def test_a_missing_image_and_an_unusual_name(tmp_path) -> None:
    folder = as_folder([kept(number) for number in range(3)], tmp_path)
    (folder / "0.png").rename(folder / "ein Haus 红.png")
    lines = (
        (folder / "metadata.jsonl").read_text().replace('"0.png"', '"ein Haus 红.png"').replace('"1.png"', '"no.png"')
    )
    (folder / "metadata.jsonl").write_text(lines + "{\n")
    report = check(open_source(folder), ResizeCrop((64, 64)))
    assert [fault.where.rsplit(":", 1)[1] for fault in report.faults] == ["4", "2"]
    assert re.search(r"There is no image at '.*no\.png' \(No such file", report.faults[1].reason)
    assert len(report.notes) == 1
    assert "has a name with spaces or non-ASCII letters" in report.notes[0]


def test_the_grid_is_what_the_model_sees(tmp_path) -> None:
    source = open_source(as_tar([kept(0)], tmp_path / "0.tar"))
    grid = check(source, ResizeCrop((64, 64))).grid
    left = grid.width - 64 - 2
    framed = ResizeCrop((64, 64)).frame(read(source[0]), module.CropView())
    assert grid.crop((left, 2, left + 64, 66)) == framed.image
    assert grid.crop((left, 68, left + 64, 132)) == framed.condition


def test_a_bounded_number_of_rows_is_in_flight(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module.os, "cpu_count", lambda: 1)
    rows = open_source(as_tar([kept(0)] * 30, tmp_path / "0.tar"))
    requested = []

    class Watched:
        faults = ()

        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, number: int) -> object:
            requested.append(number)
            return rows[number]

    for done, _ in enumerate(module._examined(Watched().__getitem__, 30)):
        assert len(requested) <= done + module.AHEAD
    assert requested == list(range(30))


def test_the_command(tmp_path) -> None:
    pairs = as_folder([kept(0), {**kept(1), "image": b""}], tmp_path / "pairs")
    grid = tmp_path / "grid.png"
    result = CliRunner().invoke(app, ["data", "check", str(pairs), "--size", "64", "-o", str(grid)])
    assert result.exit_code == 1
    assert "metadata.jsonl:2: " in result.output
    assert "1 rows can be used, 1 cannot." in result.output
    assert grid.is_file()
    shards = as_tar([kept(0)], tmp_path / "train-00.tar")
    arguments = [
        "data",
        "check",
        str(tmp_path / "train-{00..00}.tar"),
        "--condition-column",
        "condition.png",
        "-o",
        str(grid),
    ]
    assert shards.exists()
    assert CliRunner().invoke(app, arguments).exit_code == 0
    with pytest.raises(MaquetteError, match="--size is WIDTHxHEIGHT"):
        CliRunner().invoke(app, ["data", "check", str(pairs), "--size", "big"], catch_exceptions=False)


def test_black_condition_maps_are_noted(tmp_path) -> None:
    folder = as_folder([kept(0), kept(1)], tmp_path / "pairs")
    Image.new("RGB", (96, 64)).save(folder / "edges" / "1.png")
    report = check(open_source(folder), ResizeCrop((64, 64)))
    (note,) = report.notes
    assert note.startswith(f"{folder / 'metadata.jsonl'}:2: the condition map is black: it shows nothing to follow")
