"""What an annotation makes of a data set: each usable row once, the same however, whenever and by whom it is made."""

import io
import json
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.unit.data.conftest import as_folder, as_parquet, as_tar, image, kept

from maquette.annotation.annotate import Job, ShardWriter, Summary, annotate
from maquette.annotation.annotation import Annotation
from maquette.annotation.cluster import OnCluster
from maquette.annotation.output import Target
from maquette.annotation.shard_writer import png
from maquette.conditions.detect import detect
from maquette.conditions.registry import detectors
from maquette.conditions.spec import DetectorSpec, Record
from maquette.conditions.weight_sources import WeightSource
from maquette.data.sources.jsonl import Columns, Example, read
from maquette.data.sources.open import open_source
from maquette.errors import MaquetteError, MaquetteWarning

PAIRS = [kept(seed, text) for seed, text in enumerate(["a red house", "ein rotes Haus, 红", "", "a blue\nhouse", "e"])]


def here(job, source, shards, tick) -> None:
    """A way to run: no other process."""
    maker = ShardWriter.open(job, source)
    for shard in shards:
        tick(maker.make(shard))


def made(source: Path, target: Path, run=here, workers: int = 1, batch_size: int = 2, **asked: Any) -> Summary:
    asked = {"condition": "canny", "shard_size": 2} | asked
    job = Job(Annotation(str(source), **asked), Target(target), "cpu", workers, batch_size)
    return annotate(job, run)


def rows(folder: Path, columns: Columns | None = None) -> list[Example]:
    return [read(row) for row in open_source(folder, columns or Columns())]


def contents(folder: Path) -> Mapping[str, bytes]:
    """The shards, byte by byte."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[0-9]*"))}


def same(one: Image.Image | None, other: Image.Image) -> bool:
    return one is not None and np.array_equal(np.asarray(one), np.asarray(other))


@pytest.fixture
def folder(tmp_path) -> Path:
    return as_folder(PAIRS, tmp_path / "source")


@pytest.fixture(params=["folder", "tar", "parquet"])
def source(request, tmp_path) -> Path:
    if request.param == "folder":
        return as_folder(PAIRS, tmp_path / "source")
    if request.param == "tar":
        return as_tar(PAIRS, tmp_path / "source.tar")
    return as_parquet(PAIRS, tmp_path / "source.parquet")


@pytest.mark.parametrize("target", ["pairs", "pairs.parquet"])
def test_what_comes_out_is_a_data_set_with_the_images_as_they_were(source, target, tmp_path) -> None:
    summary = made(source, tmp_path / target)
    assert (summary.pairs, summary.shards, summary.left_out, list(summary.faults)) == (5, 3, 0, [])
    opened = open_source(tmp_path / target)
    assert not opened.faults
    assert [row.image.read() for row in opened] == [pair["image"] for pair in PAIRS]
    for row, pair in zip(opened, PAIRS, strict=True):
        assert row.text == pair["text"]
        assert same(read(row).condition, detect("canny", Image.open(io.BytesIO(pair["image"]))))


def test_a_folder_of_nothing_but_images(tmp_path) -> None:
    (tmp_path / "bare" / "more").mkdir(parents=True)
    names = ["b.PNG", "a.jpg", "more/c.webp", "d.gif"]
    for seed, name in enumerate(names):
        image(seed=seed).save(tmp_path / "bare" / name)
    (tmp_path / "bare" / ".hidden.png").write_bytes(b"")
    (tmp_path / "bare" / "notes.txt").write_text("no image")
    with pytest.warns(MaquetteWarning, match="holds images alone, so their texts are empty"):
        made(tmp_path / "bare", tmp_path / "out")
    opened = open_source(tmp_path / "out")
    assert [row.text for row in opened] == [""] * 4
    stored = [(tmp_path / "bare" / name).read_bytes() for name in ("a.jpg", "b.PNG", "d.gif", "more/c.webp")]
    found = [row.image.read() for row in opened]
    assert [*found[:2], found[3]] == [*stored[:2], stored[3]]
    assert found[2].startswith(b"\x89PNG")  # of what shards do not have, the pixels
    assert same(read(opened[2]).image, Image.open(io.BytesIO(stored[2])).convert("RGB"))
    with pytest.raises(MaquetteError, match=r"holds no metadata\.jsonl"):
        open_source(tmp_path / "bare")  # conditions are not made up
    with pytest.raises(MaquetteError, match=r"holds no metadata\.jsonl"):
        open_source(tmp_path / "bare", Columns(text="caption", has_conditions=False))


def test_texts_that_are_not_wanted_need_not_be_there(source) -> None:
    opened = open_source(source, Columns(text=None, has_conditions=False, has_texts=False))
    assert [row.text for row in opened] == [""] * 5
    assert [row.image.read() for row in opened] == [pair["image"] for pair in PAIRS]
    with_conditions = open_source(source, Columns(has_texts=False))
    assert [row.condition.read() for row in with_conditions] == [pair["condition"] for pair in PAIRS]
    with pytest.raises(MaquetteError, match="either read from 'words' or left out"):
        Columns(text="words", has_texts=False)


def broken_ones(folder: Path) -> Path:
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    (folder / "2.png").unlink()
    image((20, 40)).save(folder / "3.png")
    with (folder / "metadata.jsonl").open("a") as stream:
        stream.write("no JSON\n")
    return folder


def test_what_is_broken_is_left_out_and_named(folder, tmp_path) -> None:
    summary = made(broken_ones(folder), tmp_path / "out", shard_size=1)
    assert (summary.pairs, summary.shards) == (2, 2)
    assert [fault.row for fault in summary.faults] == [None, 1, 2, 3]
    found = [json.loads(line) for line in (tmp_path / "out" / "faults.jsonl").read_text().splitlines()]
    assert [Path(one["where"]).name for one in found] == [f"metadata.jsonl:{line}" for line in (6, 2, 3, 4)]
    for one, words in zip(found, ["is not JSON", "is broken", "There is no image", "32 pixels or more"], strict=True):
        assert words in one["reason"]
        assert f"{one['where']}: {one['reason']}" in str(summary)
    assert [example.text for example in rows(tmp_path / "out")] == ["a red house", "e"]
    assert not open_source(tmp_path / "out").faults  # a shard of no pair is not there
    assert made(folder, tmp_path / "out", shard_size=1) == summary  # and not tried again


def test_a_decoder_that_fails_in_its_own_way_costs_one_row(folder, tmp_path, monkeypatch) -> None:
    def fail_at_3(row: Any) -> Example:
        if row.where.endswith(":3"):
            raise IndexError("of a broken table")
        return read(row)

    monkeypatch.setattr("maquette.annotation.decode.read", fail_at_3)
    summary = made(folder, tmp_path / "out")
    assert summary.pairs == 4
    assert summary.faults[0].row == 2
    assert "cannot be read (IndexError: of a broken table)" in summary.faults[0].reason


class StoppedError(Exception):
    pass


def stop_after(count: int):
    def run(job, source, shards, tick) -> None:
        here(job, source, shards[:count], tick)
        raise StoppedError

    return run


@pytest.mark.parametrize("target", ["pairs", "pairs.parquet"])
def test_a_run_that_was_stopped_goes_on_and_ends_the_same(target, folder, tmp_path) -> None:
    broken_ones(folder)
    unbroken = made(folder, tmp_path / "whole" / target)
    out = tmp_path / target
    with pytest.raises(StoppedError):
        made(folder, out, run=stop_after(1))
    (first,) = contents(out)
    before = (out / first).stat().st_mtime_ns
    (out / f".{first.replace('0.', '1-abc.')}").write_bytes(b"half a shard")
    (out / first.replace("0.", "1.")).write_bytes(b"a shard without its note")
    summary = made(folder, out)
    assert contents(out) == contents(tmp_path / "whole" / target)
    assert (out / first).stat().st_mtime_ns == before
    assert (summary.pairs, summary.faults) == (unbroken.pairs, unbroken.faults)
    assert not list(out.glob(".0*"))


def test_a_shard_that_was_removed_is_made_again(folder, tmp_path) -> None:
    made(folder, tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "000001.tar").unlink()
    made(folder, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_other_processes_make_the_same(folder, tmp_path) -> None:
    made(folder, tmp_path / "one")
    made(folder, tmp_path / "two", run=None, workers=2, batch_size=5)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_half_written_shards_are_no_part_of_a_data_set(folder, tmp_path) -> None:
    made(folder, tmp_path / "out")
    (tmp_path / "out" / ".000003-abc.tar").write_bytes(b"half a shard")
    assert len(rows(tmp_path / "out")) == 5


def test_a_target_is_of_one_annotation(folder, tmp_path) -> None:
    out = tmp_path / "out"
    made(folder, out, options={"low": 80})
    made(folder, out, options={"low": 80, "high": 200})  # the default, said
    with pytest.raises(MaquetteError, match=r"was begun with options .*'low': 80.*, not .*'low': 90"):
        made(folder, out, options={"low": 90})
    with pytest.raises(MaquetteError, match="was begun with shard_size 2, not 3"):
        made(folder, out, options={"low": 80}, shard_size=3)
    with pytest.raises(MaquetteError, match="files that no annotation made"):
        made(folder, folder)
    assert not (folder / ".annotation").exists()
    with pytest.raises(MaquetteError, match="is a file; shards go into a folder"):
        made(folder, folder / "0.png")
    with Target(out).held(), pytest.raises(MaquetteError, match="is being written by another run"):
        made(folder, out, options={"low": 80})


def test_a_seed_gives_every_row_its_own_chance(folder, tmp_path) -> None:
    made(folder, tmp_path / "one", condition="scribble", seed=3)
    made(folder, tmp_path / "other", condition="scribble", seed=3, shard_size=5, batch_size=4)
    made(folder, tmp_path / "next", condition="scribble", seed=4)
    made(folder, tmp_path / "usual", condition="scribble")
    one, other, following, usual = (rows(tmp_path / name) for name in ("one", "other", "next", "usual"))
    for row, example in enumerate(one):
        seed = Annotation(str(folder), "scribble", seed=3).options_of(row)["seed"]
        assert same(example.condition, detect("scribble", example.image, seed=seed))
        assert same(other[row].condition, example.condition)
    assert any(not same(a.condition, b.condition) for a, b in zip(one, following, strict=True))
    assert all(same(example.condition, detect("scribble", example.image)) for example in usual)
    seeds = {Annotation(str(folder), "scribble", seed=3).options_of(row)["seed"] for row in range(100)}
    assert len(seeds) == 100


def sized(sizes: list[tuple[int, int]], folder: Path) -> Path:
    folder.mkdir()
    for number, size in enumerate(sizes):
        image(size, number).save(folder / f"{number}.png")
    return folder


def test_small_images_are_left_out(tmp_path) -> None:
    source = sized([(64, 64), (100, 63), (65, 100)], tmp_path / "source")
    summary = made(source, tmp_path / "out", smallest=64, columns=Columns(has_texts=False))
    assert (summary.pairs, summary.left_out, summary.faults) == (2, 1, [])
    assert [example.image.size for example in rows(tmp_path / "out")] == [(64, 64), (65, 100)]


def test_the_largest_are_chosen_and_keep_their_order(tmp_path, monkeypatch) -> None:
    sizes = [(64, 64), (100, 63), (90, 70), (40, 400), (70, 90), (80, 80)]
    source = sized(sizes, tmp_path / "source")
    (source / "9.png").write_bytes(b"no image")
    asked = {"largest": 3, "smallest": 50, "columns": Columns(has_texts=False), "shard_size": 2}
    summary = made(source, tmp_path / "out", **asked)
    assert [example.image.size for example in rows(tmp_path / "out")] == [(100, 63), (90, 70), (80, 80)]
    assert [fault.row for fault in summary.faults] == [6]
    monkeypatch.setattr("maquette.annotation.select.size_of", None)  # sizes are read once
    (tmp_path / "out" / "000001.tar").unlink()
    assert made(source, tmp_path / "out", **asked) == summary


def seeing(kind: DetectorSpec, monkeypatch) -> DetectorSpec:
    """A kind that is known for the length of a test."""
    monkeypatch.setitem(detectors._entries, kind.name, kind)
    return kind


WEIGHTS = {"usual": WeightSource("org/weights", {"net.pth": None}, 1, "MIT")}


class Negative:
    """A network of a kind: it is told which images come together, and refuses dark ones."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def open(self, weights: object, device: str):
        self.batches.clear()

        def see(images: list[Image.Image], options: object) -> list[Image.Image]:
            self.batches.append(len(images))
            assert multiprocessing.parent_process() is None
            if any(one.getpixel((0, 0)) == (9, 9, 9) for one in images):
                raise MaquetteError("It is too dark.")
            return [Image.fromarray(255 - np.asarray(one)) for one in images]

        return see


def test_a_network_sees_batches_that_others_decode(folder, tmp_path, monkeypatch) -> None:
    network = Negative()
    seeing(DetectorSpec("negative", "", network.open, weights=WEIGHTS), monkeypatch)
    Image.new("RGB", (96, 64), (9, 9, 9)).save(folder / "3.png")
    summary = made(folder, tmp_path / "out", run=None, condition="negative", shard_size=4, batch_size=3)
    assert network.batches == [1, 3, 1, 1]  # the first shows that it works
    assert [(fault.row, fault.reason) for fault in summary.faults] == [(3, "It is too dark.")]
    assert [example.text for example in rows(tmp_path / "out")] == [PAIRS[row]["text"] for row in (0, 1, 2, 4)]
    assert all(same(one.condition, Image.fromarray(255 - np.asarray(one.image))) for one in rows(tmp_path / "out"))


def test_only_the_image_that_is_refused_is_lost_from_its_batch(folder, tmp_path, monkeypatch) -> None:
    network = Negative()
    seeing(DetectorSpec("negative", "", network.open, weights=WEIGHTS), monkeypatch)
    Image.new("RGB", (96, 64), (9, 9, 9)).save(folder / "1.png")
    summary = made(folder, tmp_path / "out", condition="negative", shard_size=5, batch_size=5)
    assert network.batches == [1, 5, 1, 1, 1, 1, 1]
    assert [fault.row for fault in summary.faults] == [1]
    assert summary.pairs == 4


def test_weights_that_cannot_be_had_are_no_fault_of_the_images(folder, tmp_path, monkeypatch) -> None:
    def see(images: object, options: object) -> list[Image.Image]:
        raise MaquetteError("There are no weights.")

    seeing(DetectorSpec("late", "", lambda weights, device: see, weights=WEIGHTS), monkeypatch)
    with pytest.raises(MaquetteError, match="There are no weights"):
        made(folder, tmp_path / "out", condition="late")
    assert not contents(tmp_path / "out")


def test_captions_stand_in_for_texts(tmp_path, monkeypatch) -> None:
    def words(weights: object, device: str):
        return lambda images, options: [f"{one.width} wide" for one in images]

    seeing(DetectorSpec("words", "", words, outputs_text=True), monkeypatch)
    source = sized([(64, 64), (100, 64)], tmp_path / "source")
    made(source, tmp_path / "out", caption="words")
    assert [example.text for example in rows(tmp_path / "out")] == ["64 wide", "100 wide"]


def test_images_in_which_too_little_is_found(tmp_path, monkeypatch) -> None:
    """By a share that the detector tells of what its map is drawn from."""

    def nothing(*_: object) -> Any:
        raise AssertionError

    draw = Record(".json", lambda found: Image.new("RGB", (64 * found, 64)), nothing, nothing)
    kind = DetectorSpec(
        "wide", "", lambda w, d: lambda ps, o: [p.width // 64 for p in ps], record=draw, completeness=lambda n: n / 4
    )
    seeing(kind, monkeypatch)
    source = sized([(64, 64), (128, 64), (256, 64)], tmp_path / "source")
    asked = {"condition": "wide", "columns": Columns(has_texts=False)}
    summary = made(source, tmp_path / "out", found=0.5, **asked)
    assert (summary.pairs, summary.left_out) == (2, 1)
    assert [example.condition.width for example in rows(tmp_path / "out")] == [128, 256]
    assert made(source, tmp_path / "all", **asked).pairs == 3


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"condition": "words"}, "words writes words, not conditions; give it as --caption"),
        ({"caption": "canny"}, "canny draws maps, and texts are written by a detector that writes words"),
        ({"condition": "hough", "seed": 1}, "hough has no seed"),
        ({"condition": "scribble", "seed": 1, "options": {"seed": 2}}, "A seed is either one for all rows"),
        ({"found": 0.3}, "canny does not tell which share of a whole it has found"),
        ({"options": {"lo": 1}}, "did you mean 'low'"),
        ({"smallest": 31}, "smallest is a whole number of 32 or more, not 31"),
        ({"largest": 0}, "largest is a whole number of 1 or more, not 0"),
        ({"shard_size": 0}, "shard_size is a whole number of 1 or more, not 0"),
        ({"workers": 0}, "workers and batch_size are 1 or more, not 0 and 2"),
    ],
)
def test_what_cannot_be_asked(asked, words, folder, tmp_path, monkeypatch) -> None:
    seeing(
        DetectorSpec("words", "", lambda weights, device: lambda images, options: [], outputs_text=True), monkeypatch
    )
    with pytest.raises(MaquetteError, match=words):
        made(folder, tmp_path / "out", **asked)


def maps() -> Iterator[Image.Image]:
    rng = np.random.default_rng(0)
    for width in (1, 7, 8, 9, 64):
        shape = (5, width, 1)
        yield Image.fromarray(np.repeat(rng.integers(0, 2, shape, np.uint8) * 255, 3, axis=2))
        yield Image.fromarray(np.repeat(rng.integers(0, 256, shape).astype(np.uint8), 3, axis=2))
        yield Image.fromarray(rng.integers(0, 256, (5, width, 3)).astype(np.uint8))
        yield Image.fromarray(rng.integers(0, 256, (5, width)).astype(np.uint8))
    for level in (0, 1, 254, 255):
        yield Image.new("RGB", (9, 3), (level,) * 3)


def test_maps_are_kept_without_loss_in_as_many_bits_as_they_need() -> None:
    for one in maps():
        kept_map = Image.open(io.BytesIO(png(one)))
        values = np.asarray(one.convert("RGB"))
        is_grey = (values == values[..., :1]).all()
        expected = ("1" if set(values.ravel()) <= {0, 255} else "L") if is_grey else "RGB"
        assert kept_map.mode == expected
        assert same(kept_map.convert("RGB"), one.convert("RGB"))


def test_what_needs_no_network_starts_without_one() -> None:
    code = "import sys, maquette.annotation.annotate, maquette.cli.annotate; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_a_cluster_without_ray_is_a_sentence(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MaquetteError, match=r"pip install 'maquette\[scale\]'"):
        made(folder, tmp_path / "out", run=OnCluster("local"))
