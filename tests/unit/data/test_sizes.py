"""The sizes of images, which buckets need, are read once: at later starts those of changed files alone are."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import tiny_base
from tests.own_pairs import write_pairs

from maquette.data import sizes
from maquette.data.sizes import read_sizes
from maquette.data.sources.jsonl import File, Source
from maquette.data.sources.open import open_source
from maquette.training.config import TrainingConfig
from maquette.training.data.split import open_data
from maquette.training.data.tensor_store import SizeStore
from maquette.training.distributed.world import World


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The names of image files that are read from now on."""
    names: list[str] = []
    read = File.read
    monkeypatch.setattr(File, "read", lambda file: names.append(file.path.name) or read(file))
    return names


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Twelve images of four sizes, in parts of five."""
    monkeypatch.setattr(sizes, "AT_ONCE", 5)
    folder = write_pairs(tmp_path / "pairs")
    for number in range(12):
        Image.new("RGB", (64 + number % 4, 80)).save(folder / f"{number}.png")
    return folder


def slow(source: Source) -> np.ndarray:
    found = []
    for row in range(len(source)):
        with Image.open(source[row].image.path) as image:
            found.append(image.size)
    return np.array(found)


def test_later_starts_read_no_image_that_is_as_it_was(folder, tmp_path, reads) -> None:
    source, store = open_source(folder), SizeStore.at(tmp_path)
    first = read_sizes(source, store)
    assert np.array_equal(first, slow(source))
    assert len(reads) == 12
    reads.clear()
    assert np.array_equal(read_sizes(open_source(folder), SizeStore.at(tmp_path)), first)
    assert not reads
    Image.new("RGB", (300, 70)).save(folder / "7.png")
    changed = read_sizes(open_source(folder), store)
    assert sorted(reads) == [f"{number}.png" for number in range(5, 10)]
    assert changed[7].tolist() == [300, 70]
    assert np.array_equal(np.delete(changed, 7, 0), np.delete(first, 7, 0))
    assert np.array_equal(read_sizes(open_source(folder)), changed)  # without a store


def test_an_image_that_could_not_be_read_is_tried_again_alone(folder, tmp_path, reads) -> None:
    store, path = SizeStore.at(tmp_path), folder / "7.png"
    whole, seen = path.read_bytes(), path.stat()
    path.write_bytes(b"\0" * len(whole))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    Image.new("RGB", (66, 80)).save(folder / "0.png")
    most = [66, 80]  # of four images, the others of three and less
    assert read_sizes(open_source(folder), store)[7].tolist() == most
    reads.clear()
    assert read_sizes(open_source(folder), store)[7].tolist() == most
    assert reads == ["7.png"]
    path.write_bytes(whole)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    for _ in range(2):
        reads.clear()
        assert read_sizes(open_source(folder), store)[7].tolist() == [67, 80]
    assert not reads


@pytest.mark.parametrize("cache", [True, False])
def test_a_training_keeps_them_with_its_cache(folder, tmp_path, reads, cache) -> None:
    config = TrainingConfig(
        condition="rings", output=tmp_path / "run", data=str(folder), size=64, buckets=True, evaluate_every=0,
        cache=cache, cache_folder=tmp_path / "cache",
    )  # fmt: skip
    base, alone = tiny_base("sd15"), World("cpu")
    first = open_data(config, base, alone)
    images = {f"{number}.png" for number in range(12)}
    assert images <= set(reads)
    reads.clear()
    again = open_data(config, base, alone)
    assert [group.rows.tolist() for group in again.groups] == [group.rows.tolist() for group in first.groups]
    assert (images <= set(reads)) != cache


class Second(World):
    """The second process of a machine, which finds what the first one wrote while it waited."""

    def __init__(self, waited: list[str]) -> None:
        super().__init__("cpu")
        self.waited = waited

    is_local_main = False

    def barrier(self) -> None:
        self.waited.append("waited")


def test_the_second_process_of_a_machine_waits_and_reads_none(folder, tmp_path, reads) -> None:
    config = TrainingConfig(
        condition="rings", output=tmp_path / "run", data=str(folder), size=64, buckets=True, evaluate_every=0,
        cache_folder=tmp_path,
    )  # fmt: skip
    base = tiny_base("sd15")
    open_data(config, base, World("cpu"))
    kept = len(reads)
    waited: list[str] = []
    open_data(config, base, Second(waited))
    assert waited == ["waited"]
    assert len(reads) - kept < 12  # the few that are looked at for their maps
