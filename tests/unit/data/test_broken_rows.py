"""One broken row is passed over and named; the others are read, by every format and every verb that goes through."""

import json

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet
from tests.unit.data.conftest import as_parquet, encoded, image, kept, tar

from maquette.annotation.decode import decode
from maquette.annotation.select import largest
from maquette.data.check import check
from maquette.data.crop import CropView, ResizeCrop
from maquette.data.pairs import SourcePairs
from maquette.data.sources.folder import LONGEST
from maquette.data.sources.jsonl import BadRow, Columns, RowError, Source, read
from maquette.data.sources.open import braces, open_source
from maquette.errors import MaquetteError

PNG = encoded(image())
IMAGES = Columns(has_conditions=False)

LINES = {
    "a NUL in a name": (rb'{"file_name": "a\u0000.png", "text": ""}', "which no file can be called"),
    "half an emoji in a name": (rb'{"file_name": "\ud83d.png", "text": ""}', "half of an emoji"),
    "half an emoji in a text": (rb'{"file_name": "1.png", "text": "\ud83d"}', "half of an emoji"),
    "half an emoji as bytes": (b'{"file_name": "1.png", "text": "\xed\xa0\xbd"}', "is not JSON"),
    "nested": (b"[" * 100_000, "nested too deeply"),
    "long": (b'{"file_name": "1.png", "text": "' + b"x" * LONGEST + b'"}', "is longer than"),
    "another type": (rb'{"file_name": 1, "text": ""}', "must be a string, not 1"),
    "a list": (b"[1]", "is not a JSON object"),
    "outside": (rb'{"file_name": "../1.png", "text": ""}', "lies outside of the data set's folder"),
    "absolute": (rb'{"file_name": "/etc/passwd", "text": ""}', "lies outside of the data set's folder"),
    "no name": (rb'{"file_name": "", "text": ""}', "which no file can be called"),
}


def every_verb(source: Source, bad: list[int]) -> None:
    """All rows by all that goes through them; the numbers in `bad` are those that cannot be read."""
    pairs = SourcePairs.open("canny", source, ResizeCrop((64, 64), buckets=True))
    found = [number for number in range(len(source)) if isinstance(decode(source, number), BadRow)]
    assert found == bad
    report = check(source, ResizeCrop((64, 64)))
    assert report.usable == len(source) - len(bad)
    assert len(report.faults) == len(source.faults) + len(bad)
    str(report).encode()
    chosen, _ = largest(source, 10, 32)
    assert not set(chosen) & set(bad)
    for number in range(len(source)):
        if number not in bad:
            pairs.signature(number), pairs.content(number), pairs.text(number).encode()
        else:
            with pytest.raises(RowError):
                pairs.pair(number, CropView(), None)


@pytest.mark.parametrize("kind", LINES)
def test_lines(kind: str, tmp_path) -> None:
    line, words = LINES[kind]
    (tmp_path / "1.png").write_bytes(PNG)
    good = b'{"file_name": "1.png", "text": "a house"}'
    (tmp_path / "metadata.jsonl").write_bytes(b"\n".join([good, line, good]) + b"\n")
    source = open_source(tmp_path, IMAGES)
    assert [fault.where for fault in source.faults] == [f"{tmp_path / 'metadata.jsonl'}:2"]
    assert words in source.faults[0].reason
    assert len(source.faults[0].reason) < 500
    assert [row.text for row in source] == ["a house"] * 2
    every_verb(source, [])


def test_images_outside_of_the_folder_are_read_if_that_is_asked_for(tmp_path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (tmp_path / "1.png").write_bytes(PNG)
    lines = [json.dumps({"file_name": name, "text": ""}) for name in ("../1.png", str(tmp_path / "1.png"))]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    with pytest.raises(MaquetteError, match="lies outside of the data set's folder; allow that with --outside"):
        open_source(folder, IMAGES)
    source = open_source(folder, Columns(has_conditions=False, outside=True))
    assert [read(row).image.size for row in source] == [(96, 64)] * 2


PICTURES = {
    "cut after its first frame": encoded(image(), "GIF", save_all=True, append_images=[image(seed=1)])[:-3000],
    "a page that is damaged": encoded(image(), "TIFF", save_all=True, append_images=[image(seed=1)])[:-40],
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_whose_later_frames_are_broken(kind: str, tmp_path) -> None:
    """The first frame counts; where that can be read, the rest is a note."""
    source = open_source(tar(tmp_path / "0.tar", [("a.png", PNG), ("a.txt", b""), ("b.png", PICTURES[kind]),
                                                  ("b.txt", b"")]), IMAGES)  # fmt: skip
    report = check(source, ResizeCrop((64, 64)))
    assert report.usable + len(report.faults) == 2
    assert any(f"{tmp_path}/0.tar:b" in words for words in [*report.notes, *(fault.where for fault in report.faults)])


def test_special_files_as_images(tmp_path) -> None:
    (tmp_path / "1.png").write_bytes(PNG)
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    names = ("1.png", "zero.png", "folder.png", "none.png")
    lines = [json.dumps({"file_name": name, "text": ""}) for name in names]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    source = open_source(tmp_path, IMAGES)
    every_verb(source, [1, 2, 3])
    with pytest.raises(RowError, match="is not a regular file but a device"):
        read(source[1])


CELLS = {
    "a number": (pyarrow.array([{"bytes": 5}]), "no image"),
    "a name with NUL": (pyarrow.array(["a\0b.png"]), "no file can have this name"),
    "outside": (pyarrow.array(["../1.png"]), "lies outside of the data set's folder"),
    "nothing": (pyarrow.array([{"bytes": None, "path": None}], pyarrow.struct([("bytes", pyarrow.binary()),
                                                                               ("path", pyarrow.string())])), "empty"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CELLS)
def test_cells_of_tables(kind: str, tmp_path) -> None:
    cells, words = CELLS[kind]
    parquet.write_table(pyarrow.table({"image": cells, "text": ["a"]}), tmp_path / "0.parquet")
    source = open_source(tmp_path, IMAGES)
    with pytest.raises(RowError, match=words):
        read(source[0])
    every_verb(source, [0])


def test_texts_of_tables_that_are_not_utf_8(tmp_path) -> None:
    texts = pyarrow.array([b"a", b"\xff\xfe"]).cast(pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"image": [PNG, PNG], "text": texts}), tmp_path / "0.parquet")
    try:
        source = open_source(tmp_path, IMAGES)
    except MaquetteError:  # as some versions of Arrow have it
        return
    assert source[0].text == "a"
    with pytest.raises(RowError, match="'text' cannot be read"):
        source[1]


def test_bad_metadata_of_tables(tmp_path) -> None:
    table = parquet.read_table(as_parquet([kept(0)], tmp_path / "0.parquet"))
    for content in (b"{", b"[" * 100_000, b'{"info": {"features": {"image": {"_type": "Nothing"}}}}', b"\xff"):
        parquet.write_table(table.replace_schema_metadata({b"huggingface": content}), tmp_path / "0.parquet")
        with pytest.raises(MaquetteError, match="cannot be read as"):
            open_source(tmp_path)


def test_patterns_and_folders_without_end() -> None:
    with pytest.raises(MaquetteError, match="stands for 100,000,000,000 files; 1,000,000 are the most"):
        open_source("{0..99999999999}.tar")
    with pytest.raises(MaquetteError, match="stands for"):
        open_source("{0..9999}{0..9999}.tar")
    with pytest.raises(MaquetteError, match="'/' is the root of the file system"):
        open_source("/")
    assert braces("a{8..10}") == ["a8", "a9", "a10"]
    assert braces("a{08..10}-{a,b}") == [f"a{number}-{letter}" for number in ("08", "09", "10") for letter in "ab"]


def test_a_picture_named_as_another_is_read_by_its_content(tmp_path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.tif")
    (tmp_path / "a.tif").rename(tmp_path / "a.png")
    source = open_source(tmp_path, Columns(has_conditions=False, has_texts=False))
    assert read(source[0]).image.getpixel((0, 0)) == (255, 0, 0)
