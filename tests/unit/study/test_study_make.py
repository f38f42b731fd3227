"""Images are matched by name or number, and what no study can be made of is refused by a sentence, without a trace."""

import re
from pathlib import Path

import pytest
from PIL import Image
from tests.unit.study.conftest import paint

from maquette.errors import MaquetteError
from maquette.study.design import Difference, Ranking
from maquette.study.make import make
from maquette.study.matching import matched
from maquette.study.store import Store


def test_images_are_matched_by_name_whatever_their_ending(folders, tmp_path) -> None:
    other = paint(tmp_path / "other", [f"scene-{number}" for number in range(4)], 1, ending="webp")
    (other / "notes.txt").write_text("no image")
    items = matched({**folders, "other": other}, tmp_path / "sketches")
    assert [item.name for item in items] == [f"scene-{number}" for number in range(4)]
    assert items[2].images == (*(folder / "scene-2.png" for folder in folders.values()), other / "scene-2.webp")
    assert items[2].condition == tmp_path / "sketches" / "scene-2.png"


def test_images_are_matched_by_number(folders, tmp_path) -> None:
    other = paint(tmp_path / "other", ["v2-0003", "v2-0001", "v2-0000", "v2-0002"], 1)
    items = matched({"ours": folders["ours"], "other": other}, by="number")
    assert [item.name for item in items] == ["0", "1", "2", "3"]
    assert items[3].images == (folders["ours"] / "scene-3.png", other / "v2-0003.png")


def test_size_scales_all(folders, tmp_path) -> None:
    large = paint(tmp_path / "large", [f"scene-{number}" for number in range(4)], 1, (80, 48))
    store = make(tmp_path / "study", {"a": folders["ours"], "b": large}, Ranking(), size=(32, 32), seed=0)
    for address in store.addresses.values():
        with Image.open(store.image(address)) as image:
            assert image.size == (32, 32)


def spoil(tmp_path, folders) -> None:
    paint(tmp_path / "lacking", [f"scene-{number}" for number in range(2)], 1)
    paint(tmp_path / "alien", ["x", "y"], 1)
    paint(tmp_path / "large", [f"scene-{number}" for number in range(4)], 1, (41, 24))
    paint(tmp_path / "twice", ["scene-1", "scene-2"], 1)
    (tmp_path / "twice" / "scene-1.jpg").write_bytes((tmp_path / "twice" / "scene-1.png").read_bytes())
    paint(tmp_path / "broken", [f"scene-{number}" for number in range(4)], 1)
    (tmp_path / "broken" / "scene-3.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (tmp_path / "empty").mkdir()
    (tmp_path / "there").mkdir()


@pytest.mark.parametrize(
    ("methods", "design", "more", "message"),
    [
        (
            ["ours"],
            Ranking(),
            {},
            "A ranking compares 2 to 9 methods, not 1; give a folder of images for each of them.",
        ),
        (["ours"] * 3, Difference(), {}, "A test of the difference compares 2 methods, not 3; give two folders."),
        (["ours", "ours"], Ranking(), {}, "The methods '0' and '1' have the same folder"),
        (["ours", "nowhere"], Ranking(), {}, "There is no folder 'nowhere'; give one with the images of a method."),
        (["ours", "empty"], Ranking(), {}, "The folder 'empty' holds no images (.bmp"),
        (["ours", "lacking"], Ranking(), {}, "'lacking' has no image 'scene-2' and 1 others, which 'ours' has; every"),
        (["lacking", "ours"], Ranking(), {}, "'lacking' has no image 'scene-2' and 1 others, which 'ours' has; every"),
        (["ours", "alien"], Ranking(), {}, "No name of an image in 'ours' ('scene-0') occurs in 'alien' ('x'): images"),
        (["ours", "alien"], Ranking(), {"by": "number"}, "'alien/x.png' has no number in its name to be matched by"),
        (["ours", "sgd"], Ranking(), {"by": "size"}, "There is no way to match images 'size'. Known: name, number."),
        (["ours", "twice"], Ranking(), {}, "'scene-1.jpg' and 'scene-1.png' in 'twice' have one name; remove one."),
        (["ours", "large"], Ranking(), {}, "'ours/scene-"),
        (["ours", "broken"], Ranking(), {}, "'broken/scene-3.png' is "),
        (["ours", "sgd"], Ranking(5), {}, "items is a number from 1 to 4, the images of each method, not 5."),
        (["ours", "sgd"], Ranking(0), {}, "items is a number from 1 to 4, the images of each method, not 0."),
        (["ours", "sgd"], Difference(), {}, "100 pairs to learn from and 200 questions take 300 images of each"),
        (["ours", "sgd"], Difference(0, 2), {}, "pairs is a whole number of 1 or more, not 0."),
        (["ours", "sgd"], Ranking(), {"raters": 0}, "A study has 1 to 10,000 raters, not 0."),
        (["ours", "sgd"], Ranking(), {"raters": ["a", "a"]}, "Every rater has a name of their own; 'a' is not one."),
        (["ours", "sgd"], Ranking(), {"raters": ["a", ""]}, "Every rater has a name of their own; '' is not one."),
        (["ours", "sgd"], Ranking(), {"seed": -1}, "seed is a whole number of 0 or more, not -1."),
        (["ours", "sgd"], Ranking(), {"output": "there"}, "'there' exists already, and a study is never overwritten"),
    ],
)
def test_what_no_study_can_be_made_of(folders, tmp_path, monkeypatch, methods, design, more, message) -> None:
    spoil(tmp_path, folders)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    named = {str(number): Path(folder) for number, folder in enumerate(methods)}
    more = {"seed": 0, **more}
    with pytest.raises(MaquetteError, match="^" + re.escape(message)):
        make(Path(more.pop("output", "study")), named, design, **more)
    assert sorted(tmp_path.iterdir()) == before


def test_images_of_several_sizes_are_told_with_both(folders, tmp_path) -> None:
    spoil(tmp_path, folders)
    with pytest.raises(MaquetteError, match=r"40×24.* and .*41×24, which would give their methods away; give --size"):
        make(tmp_path / "study", {"a": folders["ours"], "b": tmp_path / "large"}, Ranking(), seed=0)


def test_a_folder_without_a_study_is_told(tmp_path) -> None:
    with pytest.raises(MaquetteError, match=r"holds no study \(study.sqlite\); `maquette study make` makes one.$"):
        Store(tmp_path)
    (tmp_path / "study.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(MaquetteError, match=r"cannot be read as a study \(file is not a database\)"):
        Store(tmp_path)


def test_a_study_of_another_version_is_told(ranking) -> None:
    ranking._connection.execute("pragma user_version = 7")
    with pytest.raises(MaquetteError, match="is a study of version 7, and 1 is read here"):
        Store(ranking.folder)
