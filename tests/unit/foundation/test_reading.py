"""What comes in: regular files of a bounded size, pictures of a few formats, JSON that is text, values in bounds."""

import json
import math
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maquette.cli.generation.prompts import _lines
from maquette.conditions.drawing.people import read_people
from maquette.controlnet.contract import Contract
from maquette.data.sources.open import open_source
from maquette.errors import MaquetteError
from maquette.foundation.images import open_image
from maquette.foundation.reading.arrays import read_array
from maquette.foundation.reading.documents import NESTING, parse_json, read_toml
from maquette.foundation.reading.files import inside, open_regular, read_bytes, read_text
from maquette.foundation.reading.rules import check_values, either, listed, optional, reasonable, table, typed
from maquette.foundation.weights import open_weights
from maquette.sampling.metadata import Record
from maquette.training.config import TrainingConfig

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def in_time() -> Iterator[None]:
    """Fail instead of waiting for ever."""

    def late(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listening(path: Path) -> None:
    short = Path(os.path.relpath(path))  # a socket's path is of 108 bytes at most
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(short) if len(str(short)) < 100 else str(path))


SPECIAL = {"pipe": pipe, "device": endless, "socket": listening}
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "picture": ("a.png", open_image),
    "weights": ("a.safetensors", open_weights),
    "index": ("model.safetensors.index.json", open_weights),
    "record": ("a.png", Record.load),
    "record beside": ("a.jpg.json", lambda path: Record.load(path.with_suffix(""))),
    "shard": ("a.tar", open_source),
    "table": ("a.parquet", open_source),
    "people": ("a.json", read_people),
    "prompts": ("a.txt", _lines),
    "training": ("training.json", TrainingConfig.load),
}


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("special", SPECIAL)
def test_only_regular_files_are_opened(special: str, kind: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, read = READERS[kind]
    if kind == "record beside":
        Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    SPECIAL[special](tmp_path / name)
    with pytest.raises(MaquetteError):
        read(tmp_path / name)


def test_links_to_regular_files_are_read(tmp_path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert open_image(tmp_path / "b.png").getpixel((0, 0)) == (255, 0, 0)
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(MaquetteError, match="There is no image"):
        open_image(tmp_path / "loop.png")


@pytest.mark.parametrize("name", ["a\0b", "\ud83d", "n" * 300])
def test_names_that_no_file_can_have(name: str, tmp_path) -> None:
    with pytest.raises(OSError, match=r"no file can have this name|too long"):
        open_regular(tmp_path / name)
    with pytest.raises(MaquetteError, match="There is no image"):
        open_image(tmp_path / name)


def test_no_more_is_read_than_is_meant_to_be_there(tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_bytes(tmp_path / "a", 4)
    with pytest.raises(OSError, match="larger than 10 bytes"):
        read_text("/proc/self/maps", 10)  # its size is stated as 0


@pytest.mark.parametrize(
    ("name", "is_inside"),
    [
        ("a.png", True), ("b/a.png", True), ("b/../a.png", True), ("..a.png", True), ("/data/set/a.png", True),
        ("../a.png", False), ("b/../../a.png", False), ("/etc/passwd", False), ("/data/settings/a.png", False),
        ("..", False), ("/data/set/../a.png", False),
    ],
)  # fmt: skip
def test_paths_that_leave_a_folder(name: str, is_inside: bool) -> None:
    folder = Path("/data/set")
    assert inside(name, folder) == (folder / name if is_inside else None)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.eps"])
def test_no_interpreter_is_started_for_a_picture(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("something was started"))
    (tmp_path / name).write_bytes(EPS)
    with pytest.raises(MaquetteError, match="is not an image"):
        open_image(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * (NESTING + 1) + b"]" * (NESTING + 1), "nested too deeply"),
        (rb'{"a": "\ud83d"}', "half of an emoji"),
        (b'{"a": "\xed\xa0\xbd"}', "utf-8"),
        (b"\xff", "utf-8"),
        (b"{", "Expecting"),
        (b"", "Expecting"),
        (b"1" * 5000, "integer"),
    ],
)
def test_json_that_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(content)


def test_json_that_is_read() -> None:
    assert parse_json("\ufeff[1]".encode()) == [1]  # with a mark of its byte order
    assert parse_json(rb'"\ud83c\udfe0"') == "🏠"  # both halves
    assert parse_json(json.dumps({"[": "{" * 200})) == {"[": "{" * 200}
    deepest = b"[" * NESTING + b"]" * NESTING
    assert parse_json(deepest) == json.loads(deepest)


def test_nested_toml(tmp_path) -> None:
    (tmp_path / "a.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(ValueError, match=r"nested too deeply|Invalid|Unclosed"):
        read_toml(tmp_path / "a.toml")


RULES = {
    "layers": typed(int, 1, 8),
    "width": optional(either(typed(int, 1), listed(typed(int, 1), 1, 3))),
    "name": typed(str),
    "part": table({"scale": typed(float, 0, 1)}),
}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"layers": 10**9}, r"'layers' in 'a.json' is a whole number from 1 to 8, not 1000000000; download it again"),
        ({"layers": True}, "not True"),
        ({"layers": 10**400}, "is a whole number"),
        ({"width": [1, 2, 3, 4]}, "is a list of 1 to 3 values"),
        ({"width": "x"}, "is a whole number of 1 or more, not 'x' or is a list"),
        ({"name": "\ud83d"}, "half of an emoji"),
        ({"name": 5}, "is a text, not 5"),
        ({"part": {"scale": math.nan}}, "has 'scale', which is a number from 0 to 1, not nan"),
        ({"part": []}, r"is a table, not \[\]"),
        ({"unknown": [{"deep": [10**30]}]}, "numbers are within"),
        ({"unknown": [0] * 10**6}, "1,000,000 entries"),
        ([1], r"holds no named settings but \[1\]"),
    ],
)
def test_the_file_the_setting_and_the_value_are_named(values: object, words: str) -> None:
    with pytest.raises(MaquetteError, match=words) as raised:
        check_values(values, RULES, "a.json")
    assert "a.json" in str(raised.value)
    assert len(str(raised.value)) < 500


def test_valid_values() -> None:
    values = {"layers": 8, "width": [1, 2], "name": "🏠", "part": {"scale": 1, "else": None}, "unknown": [1, "a"]}
    assert check_values(values, RULES, "a.json") is values
    assert check_values({"width": None}, RULES, "a.json") == {"width": None}
    assert reasonable({"a": [1.5, True, None, {"b": "c"}]}) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"condition_range": [0]}, {"condition_range": "01"}, {"channel_order": "rbg"}, {"detector": 5},
        {"categorical": "yes"}, {"base_fingerprint": ["a"]}, {"prompt_drop": 2}, {"optimizer_steps": -1},
        {"resize": ["x"]}, {"order": "backwards"}, {"pooled": None},
    ],
)  # fmt: skip
def test_contracts_with_wrong_values(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(MaquetteError, match=f"'{name}' in 'the contract of a ControlNet'"):
        Contract.from_json({"detector": "canny", **wrong})


def test_arrays_that_state_more_than_they_hold(tmp_path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.ones((4, 4)))
    assert np.array_equal(read_array(path, 2**20), np.ones((4, 4)))
    whole = path.read_bytes()
    for content, words in (
        (whole.replace(b"(4, 4), }", b"(4, -4), }"[:9]), "header|cut off|are the most"),
        (whole.replace(b"(4, 4), }   ", b"(4, 400), } "), "cut off"),
        (whole.replace(b"(4, 4), }      ", b"(4, 40000), }  "), "are the most"),
        (whole[:20], "header"),
        (b"", "header"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words):
            read_array(path, 2**20)
    np.save(path, np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"allow_pickle|cut off"):
        read_array(path, 2**20)
