"""A folder with one line per row: layouts, columns, and malformed lines."""

import json
import re

import pytest
from tests.unit.data.conftest import as_folder, kept

from maquette.data.sources.folder import Folder
from maquette.data.sources.jsonl import Columns, File, RowError, read
from maquette.errors import MaquetteError


@pytest.fixture
def folder(tmp_path):
    return as_folder([kept(0)], tmp_path / "pairs")


def test_the_two_layouts(folder) -> None:
    (found,) = Folder(folder)
    assert (found.image, found.condition) == (File(folder / "0.png"), File(folder / "edges/0.png"))
    assert found.where == f"{folder / 'metadata.jsonl'}:1"
    assert read(found).text == "a red house"
    (folder / "metadata.jsonl").unlink()
    (folder / "prompt.json").write_text('{"source": "edges/0.png", "target": "0.png", "prompt": "a disc"}\n')
    assert Folder(folder)[0].image == File(folder / "0.png")


def test_column_names_are_never_guessed(folder) -> None:
    (folder / "metadata.jsonl").write_text('{"image": "0.png", "edge": "edges/0.png", "caption": "a"}')
    with pytest.raises(MaquetteError, match=r"has no 'file_name' \(it has: 'image', 'edge', 'caption'\)"):
        Folder(folder)
    assert len(Folder(folder, Columns("image", "edge", "caption"))) == 1


def test_a_folder_that_holds_no_data(tmp_path) -> None:
    with pytest.raises(MaquetteError, match=r"holds no metadata\.jsonl and no prompt\.json; write"):
        Folder(tmp_path)
    (tmp_path / "metadata.jsonl").write_text("")
    with pytest.raises(MaquetteError, match="holds no row that can be read"):
        Folder(tmp_path)


def test_malformed_lines(folder) -> None:
    sound = json.loads((folder / "metadata.jsonl").read_text())
    lines = [
        "\ufeff" + json.dumps(sound),  # 1: a byte order mark, as some editors write
        '{"file_name": "0.png", "conditioning',
        "[]",
        "",
        json.dumps(sound) + "\r",  # 5: Windows' line ending
        '{"file_name": "0.png", "text": "a"}',
        json.dumps(sound | {"file_name": 1}),
    ]
    (folder / "metadata.jsonl").write_bytes(
        "\n".join(lines).encode() + b'\n{"text": "\xff"}\n' + json.dumps(sound).encode()
    )
    source = Folder(folder)
    assert [row.where.rsplit(":", 1)[1] for row in source] == ["1", "5", "9"]
    assert all(read(row).text == sound["text"] for row in source)
    unusable = {int(fault.where.rsplit(":", 1)[1]): fault.reason for fault in source.faults}
    expected = {
        2: "is not JSON",
        3: "is not a JSON object",
        6: "has no 'conditioning_image'",
        7: "'file_name' must be a string, not 1",
        8: "is not JSON",
    }
    assert unusable.keys() == expected.keys()
    assert all(re.search(reason, unusable[line]) for line, reason in expected.items())


def test_a_file_that_changes_after_opening(folder) -> None:
    source = Folder(folder)
    (folder / "metadata.jsonl").write_text("something else\n")
    with pytest.raises(RowError, match=r"metadata\.jsonl:1: is not JSON .* was a row when the folder was opened"):
        source[0]
