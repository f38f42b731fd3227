"""Annotations: each usable row once, and the same bytes whatever the processes, batches and interruptions."""

import io
import json
import multiprocessing
import os
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


def in_process(job, source, shards, tick) -> None:
    """A runner without worker processes."""
    writer = ShardWriter.open(job, source)
    for shard in shards:
        tick(writer.write(shard))


def annotated(
    source: Path, target: Path, runner=in_process, workers: int = 1, batch_size: int = 2, **settings: Any
) -> Summary:
    settings = {"condition": "canny", "shard_size": 2, "size": None} | settings
    job = Job(Annotation(str(source), **settings), Target(target), "cpu", workers, batch_size)
    return annotate(job, runner)


def rows(folder: Path, columns: Columns | None = None) -> list[Example]:
    return [read(row) for row in open_source(folder, columns or Columns())]


def contents(folder: Path) -> Mapping[str, bytes]:
    """The shards, byte by byte."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[0-9]*"))}


def same(image: Image.Image | None, other: Image.Image) -> bool:
    return image is not None and np.array_equal(np.asarray(image), np.asarray(other))


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
    summary = annotated(source, tmp_path / target)
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
    with pytest.warns(MaquetteWarning, match="holds only images, so their texts are empty"):
        annotated(tmp_path / "bare", tmp_path / "out")
    opened = open_source(tmp_path / "out")
    assert [row.text for row in opened] == [""] * 4
    stored = [(tmp_path / "bare" / name).read_bytes() for name in ("a.jpg", "b.PNG", "d.gif", "more/c.webp")]
    found = [row.image.read() for row in opened]
    assert [*found[:2], found[3]] == [*stored[:2], stored[3]]
    assert found[2].startswith(b"\x89PNG")  # shards do not support GIF
    assert same(read(opened[2]).image, Image.open(io.BytesIO(stored[2])).convert("RGB"))
    with pytest.raises(MaquetteError, match=r"holds no metadata\.jsonl"):
        open_source(tmp_path / "bare")  # without conditions
    with pytest.raises(MaquetteError, match=r"holds no metadata\.jsonl"):
        open_source(tmp_path / "bare", Columns(text="caption", has_conditions=False))


def test_texts_that_are_not_read_need_not_exist(source) -> None:
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
    summary = annotated(broken_ones(folder), tmp_path / "out", shard_size=1)
    assert (summary.pairs, summary.shards) == (2, 2)
    assert [fault.row for fault in summary.faults] == [None, 1, 2, 3]
    found = [json.loads(line) for line in (tmp_path / "out" / "faults.jsonl").read_text().splitlines()]
    assert [Path(fault["where"]).name for fault in found] == [f"metadata.jsonl:{line}" for line in (6, 2, 3, 4)]
    reasons = ["is not JSON", "is broken", "There is no image", "32 pixels or more"]
    for fault, reason in zip(found, reasons, strict=True):
        assert reason in fault["reason"]
        assert f"{fault['where']}: {fault['reason']}" in str(summary)
    assert [example.text for example in rows(tmp_path / "out")] == ["a red house", "e"]
    assert not open_source(tmp_path / "out").faults  # shards without pairs are not written
    assert annotated(folder, tmp_path / "out", shard_size=1) == summary  # and not tried again


def test_a_decoder_that_fails_in_its_own_way_costs_one_row(folder, tmp_path, monkeypatch) -> None:
    def fail_at_3(row: Any) -> Example:
        if row.where.endswith(":3"):
            raise IndexError("of a broken table")
        return read(row)

    monkeypatch.setattr("maquette.annotation.decode.read", fail_at_3)
    summary = annotated(folder, tmp_path / "out")
    assert summary.pairs == 4
    assert summary.faults[0].row == 2
    assert "cannot be read (IndexError: of a broken table)" in summary.faults[0].reason


class StoppedError(Exception):
    pass


def stop_after(count: int):
    def run(job, source, shards, tick) -> None:
        in_process(job, source, shards[:count], tick)
        raise StoppedError

    return run


@pytest.mark.parametrize("target", ["pairs", "pairs.parquet"])
def test_an_interrupted_run_resumes_and_ends_the_same(target, folder, tmp_path) -> None:
    broken_ones(folder)
    unbroken = annotated(folder, tmp_path / "whole" / target)
    out = tmp_path / target
    with pytest.raises(StoppedError):
        annotated(folder, out, runner=stop_after(1))
    (first,) = contents(out)
    before = (out / first).stat().st_mtime_ns
    (out / f".{first.replace('0.', '1-abc.')}").write_bytes(b"half a shard")
    (out / first.replace("0.", "1.")).write_bytes(b"a shard without its statistics")
    summary = annotated(folder, out)
    assert contents(out) == contents(tmp_path / "whole" / target)
    assert (out / first).stat().st_mtime_ns == before
    assert (summary.pairs, summary.faults) == (unbroken.pairs, unbroken.faults)
    assert not list(out.glob(".0*"))


def test_a_removed_shard_is_written_again(folder, tmp_path) -> None:
    annotated(folder, tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "000001.tar").unlink()
    annotated(folder, tmp_path / "out")
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("target", ["pairs", "pairs.parquet"])
@pytest.mark.parametrize("damage", ["cut", "a bit"])
def test_a_damaged_shard_is_named_and_written_again(target, damage, folder, tmp_path) -> None:
    out = tmp_path / target
    annotated(folder, out)
    before = contents(out)
    path = sorted(out.glob("[0-9]*"))[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content[: len(content) // 2] if damage == "cut" else content)
    with pytest.warns(MaquetteWarning, match=rf"'{path.name}' in .* is not as it was written; it is written again\."):
        annotated(folder, out)
    assert contents(out) == before


def test_damaged_statistics_are_named_and_their_shard_is_written_again(folder, tmp_path) -> None:
    out = tmp_path / "out"
    summary = annotated(folder, out)
    for number, change in enumerate([(b'"pairs": 2', b'"pairs": 3'), (b"{", b"["), (b"}", b"")]):
        path = out / ".annotation" / f"{number:06d}.json"
        path.write_bytes(path.read_bytes().replace(*change, 1) or b"junk")
    with pytest.warns(MaquetteWarning, match=r"00000\d\.json' is damaged"):
        assert annotated(folder, out) == summary
    (out / ".annotation" / "settings.json").write_bytes(b"")
    with pytest.warns(MaquetteWarning, match="is damaged"), pytest.raises(MaquetteError, match="not known what"):
        annotated(folder, out)


def test_a_source_that_changed_between_runs_is_noticed(folder, tmp_path) -> None:
    """Not if it was only touched; and what is gone from it is kept."""
    out = tmp_path / "out"
    annotated(folder, out)
    before = contents(out)
    for path in folder.glob("*.png"):
        os.utime(path, ns=(1, 1))
    annotated(folder, out)
    assert contents(out) == before
    image(seed=77).save(folder / "2.png")
    with pytest.warns(MaquetteWarning, match=r"'000001\.tar' .* that have changed since; it is written"):
        annotated(folder, out)
    after = contents(out)
    assert [name for name in before if after[name] != before[name]] == ["000001.tar"]
    fresh = tmp_path / "fresh"
    annotated(folder, fresh)
    assert contents(fresh) == after
    (folder / "0.png").unlink()
    with pytest.warns(MaquetteWarning, match=r"'000000\.tar' .* cannot be read any more; it stays as it is"):
        annotated(folder, out)
    assert contents(out) == after


def test_targets_of_versions_without_checksums_are_resumed(folder, tmp_path) -> None:
    out = tmp_path / "out"
    summary = annotated(folder, out)
    for path in (out / ".annotation").glob("*.json"):
        values = json.loads(path.read_text())
        path.write_text(
            json.dumps({k: v for k, v in values.items() if k not in ("check", "checksum", "digests", "marks")})
        )
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert annotated(folder, out) == summary
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.tar")} == before


def test_worker_processes_write_the_same(folder, tmp_path) -> None:
    annotated(folder, tmp_path / "one")
    annotated(folder, tmp_path / "two", runner=None, workers=2, batch_size=5)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_partial_shards_are_not_read(folder, tmp_path) -> None:
    annotated(folder, tmp_path / "out")
    (tmp_path / "out" / ".000003-abc.tar").write_bytes(b"half a shard")
    assert len(rows(tmp_path / "out")) == 5


def test_a_target_takes_one_annotation(folder, tmp_path) -> None:
    out = tmp_path / "out"
    annotated(folder, out, options={"low": 80})
    annotated(folder, out, options={"low": 80, "high": 200})  # the default, given explicitly
    with pytest.raises(MaquetteError, match=r"was started with options .*'low': 80.*, not .*'low': 90"):
        annotated(folder, out, options={"low": 90})
    with pytest.raises(MaquetteError, match="was started with shard_size 2, not 3"):
        annotated(folder, out, options={"low": 80}, shard_size=3)
    with pytest.raises(MaquetteError, match="files that no annotation wrote"):
        annotated(folder, folder)
    assert not (folder / ".annotation").exists()
    with pytest.raises(MaquetteError, match="is a file; shards go into a folder"):
        annotated(folder, folder / "0.png")
    with Target(out).lock(), pytest.raises(MaquetteError, match="is being written by process"):
        annotated(folder, out, options={"low": 80})


def test_a_seed_gives_every_row_another_seed(folder, tmp_path) -> None:
    annotated(folder, tmp_path / "one", condition="scribble", seed=3)
    annotated(folder, tmp_path / "other", condition="scribble", seed=3, shard_size=5, batch_size=4)
    annotated(folder, tmp_path / "next", condition="scribble", seed=4)
    annotated(folder, tmp_path / "default", condition="scribble")
    examples, other, following, default = (rows(tmp_path / name) for name in ("one", "other", "next", "default"))
    for row, example in enumerate(examples):
        seed = Annotation(str(folder), "scribble", seed=3).options_of(row)["seed"]
        assert same(example.condition, detect("scribble", example.image, seed=seed))
        assert same(other[row].condition, example.condition)
    assert any(not same(a.condition, b.condition) for a, b in zip(examples, following, strict=True))
    assert all(same(example.condition, detect("scribble", example.image)) for example in default)
    seeds = {Annotation(str(folder), "scribble", seed=3).options_of(row)["seed"] for row in range(100)}
    assert len(seeds) == 100


def sized(sizes: list[tuple[int, int]], folder: Path) -> Path:
    folder.mkdir()
    for number, size in enumerate(sizes):
        image(size, number).save(folder / f"{number}.png")
    return folder


def test_small_images_are_left_out(tmp_path) -> None:
    source = sized([(64, 64), (100, 63), (65, 100)], tmp_path / "source")
    summary = annotated(source, tmp_path / "out", smallest=64, columns=Columns(has_texts=False))
    assert (summary.pairs, summary.left_out, summary.faults) == (2, 1, [])
    assert [example.image.size for example in rows(tmp_path / "out")] == [(64, 64), (65, 100)]


def test_the_largest_are_chosen_and_keep_their_order(tmp_path, monkeypatch) -> None:
    sizes = [(64, 64), (100, 63), (90, 70), (40, 400), (70, 90), (80, 80)]
    source = sized(sizes, tmp_path / "source")
    (source / "9.png").write_bytes(b"no image")
    settings = {"largest": 3, "smallest": 50, "columns": Columns(has_texts=False), "shard_size": 2}
    summary = annotated(source, tmp_path / "out", **settings)
    assert [example.image.size for example in rows(tmp_path / "out")] == [(100, 63), (90, 70), (80, 80)]
    assert [fault.row for fault in summary.faults] == [6]
    monkeypatch.setattr("maquette.annotation.select.size_of", None)  # sizes are read once
    (tmp_path / "out" / "000001.tar").unlink()
    assert annotated(source, tmp_path / "out", **settings) == summary


def register(spec: DetectorSpec, monkeypatch) -> None:
    """Register a detector for the duration of a test."""
    monkeypatch.setitem(detectors._entries, spec.name, spec)


WEIGHTS = {"usual": WeightSource("org/weights", {"net.pth": None}, 1, "MIT")}


class Negative:
    """A stand-in for a network: it inverts images, records batch sizes, and refuses dark images."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def open(self, weights: object, device: str):
        self.batches.clear()

        def predict(images: list[Image.Image], options: object) -> list[Image.Image]:
            self.batches.append(len(images))
            assert multiprocessing.parent_process() is None
            if any(image.getpixel((0, 0)) == (9, 9, 9) for image in images):
                raise MaquetteError("It is too dark.")
            return [Image.fromarray(255 - np.asarray(image)) for image in images]

        return predict


def test_a_network_gets_batches_that_workers_decode(folder, tmp_path, monkeypatch) -> None:
    network = Negative()
    register(DetectorSpec("negative", "", network.open, weights=WEIGHTS), monkeypatch)
    Image.new("RGB", (96, 64), (9, 9, 9)).save(folder / "3.png")
    summary = annotated(folder, tmp_path / "out", runner=None, condition="negative", shard_size=4, batch_size=3)
    assert network.batches == [1, 3, 1, 1]  # the first is the trial on opening
    assert [(fault.row, fault.reason) for fault in summary.faults] == [(3, "It is too dark.")]
    assert [example.text for example in rows(tmp_path / "out")] == [PAIRS[row]["text"] for row in (0, 1, 2, 4)]
    for example in rows(tmp_path / "out"):
        assert same(example.condition, Image.fromarray(255 - np.asarray(example.image)))


def test_a_refused_image_costs_its_batch_no_other(folder, tmp_path, monkeypatch) -> None:
    network = Negative()
    register(DetectorSpec("negative", "", network.open, weights=WEIGHTS), monkeypatch)
    Image.new("RGB", (96, 64), (9, 9, 9)).save(folder / "1.png")
    summary = annotated(folder, tmp_path / "out", condition="negative", shard_size=5, batch_size=5)
    assert network.batches == [1, 5, 1, 1, 1, 1, 1]
    assert [fault.row for fault in summary.faults] == [1]
    assert summary.pairs == 4


def test_missing_weights_are_not_a_fault_of_the_images(folder, tmp_path, monkeypatch) -> None:
    def predict(images: object, options: object) -> list[Image.Image]:
        raise MaquetteError("There are no weights.")

    register(DetectorSpec("late", "", lambda weights, device: predict, weights=WEIGHTS), monkeypatch)
    with pytest.raises(MaquetteError, match="There are no weights"):
        annotated(folder, tmp_path / "out", condition="late")
    assert not contents(tmp_path / "out")


def test_captions_replace_texts(tmp_path, monkeypatch) -> None:
    def load(weights: object, device: str):
        return lambda images, options: [f"{image.width} wide" for image in images]

    register(DetectorSpec("words", "", load, outputs_text=True), monkeypatch)
    source = sized([(64, 64), (100, 64)], tmp_path / "source")
    annotated(source, tmp_path / "out", caption="words")
    assert [example.text for example in rows(tmp_path / "out")] == ["64 wide", "100 wide"]


def test_images_in_which_too_little_is_detected_are_left_out(tmp_path, monkeypatch) -> None:

    def nothing(*_: object) -> Any:
        raise AssertionError

    def load(weights: object, device: str):
        return lambda images, options: [image.width // 64 for image in images]

    record = Record(".json", lambda found: Image.new("RGB", (64 * found, 64)), nothing, nothing)
    register(DetectorSpec("wide", "", load, record=record, completeness=lambda found: found / 4), monkeypatch)
    source = sized([(64, 64), (128, 64), (256, 64)], tmp_path / "source")
    settings = {"condition": "wide", "columns": Columns(has_texts=False)}
    summary = annotated(source, tmp_path / "out", found=0.5, **settings)
    assert (summary.pairs, summary.left_out) == (2, 1)
    assert [example.condition.width for example in rows(tmp_path / "out")] == [128, 256]
    assert annotated(source, tmp_path / "all", **settings).pairs == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"condition": "words"}, "words writes text, not condition maps; give it as --caption"),
        ({"caption": "canny"}, "canny outputs maps, not text; give --caption a detector that writes text"),
        ({"condition": "hough", "seed": 1}, "hough has no seed"),
        (
            {"condition": "scribble", "seed": 1, "options": {"seed": 2}},
            "either the option seed, .* or --seed, not both",
        ),
        ({"found": 0.3}, "canny does not say how much of a whole it has found"),
        ({"options": {"lo": 1}}, "did you mean 'low'"),
        ({"smallest": 31}, "smallest is a whole number of 32 or more, not 31"),
        ({"largest": 0}, "largest is a whole number of 1 or more, not 0"),
        ({"shard_size": 0}, "shard_size is a whole number of 1 or more, not 0"),
        ({"workers": 0}, "workers and batch_size are 1 or more, not 0 and 2"),
    ],
)
def test_settings_that_are_refused(settings, message, folder, tmp_path, monkeypatch) -> None:
    register(
        DetectorSpec("words", "", lambda weights, device: lambda images, options: [], outputs_text=True), monkeypatch
    )
    with pytest.raises(MaquetteError, match=message):
        annotated(folder, tmp_path / "out", **settings)


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


def test_maps_are_stored_losslessly_in_as_few_bits_as_possible() -> None:
    for condition_map in maps():
        stored = Image.open(io.BytesIO(png(condition_map)))
        values = np.asarray(condition_map.convert("RGB"))
        is_grey = (values == values[..., :1]).all()
        expected = ("1" if set(values.ravel()) <= {0, 255} else "L") if is_grey else "RGB"
        assert stored.mode == expected
        assert same(stored.convert("RGB"), condition_map.convert("RGB"))


def test_annotation_without_networks_does_not_import_torch() -> None:
    code = "import sys, maquette.annotation.annotate, maquette.cli.annotate; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_a_cluster_needs_ray(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MaquetteError, match=r"pip install 'maquette\[scale\]'"):
        annotated(folder, tmp_path / "out", runner=OnCluster("local"))
