"""What the start of a training reads: each image once, unless its file changes, whatever the number of starts."""

import os

import numpy as np
import pytest
from PIL import Image
from tests.conftest import tiny_base
from tests.own_pairs import write_pairs

from maquette.data.crop import CropView, ResizeCrop
from maquette.data.pairs import SourcePairs
from maquette.data.sources.jsonl import Columns, File
from maquette.data.sources.open import open_source
from maquette.training.data import filling, latent_cache
from maquette.training.distributed.world import World

ALONE = World("cpu")


@pytest.fixture(scope="module")
def base():
    return tiny_base("sd15", context=96)


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The names of image files that are read from now on."""
    names: list[str] = []
    read = File.read
    monkeypatch.setattr(File, "read", lambda file: names.append(file.path.name) or read(file))
    return names


def pairs(folder, **framing) -> SourcePairs:
    return SourcePairs.open("rings", open_source(folder), ResizeCrop((64, 64), **framing))


@pytest.fixture
def small(monkeypatch) -> None:
    """Chunks of five rows, so that twelve make three."""
    for module in (filling, latent_cache):
        monkeypatch.setattr(module, "CHUNK", 5)


def moments(cache):
    return [cache.moments(row, CropView()) for row in range(12)]


@pytest.mark.usefixtures("small")
def test_a_second_start_reads_no_image(base, tmp_path, reads) -> None:
    """Nor does one with the folder under another name; a file that is written anew is read, with its chunk."""
    folder = write_pairs(tmp_path / "pairs")
    first = moments(latent_cache.precompute(base, pairs(folder), tmp_path, ALONE))
    assert {f"{number}.png" for number in range(12)} <= set(reads)
    reads.clear()
    again = latent_cache.precompute(base, pairs(folder), tmp_path, ALONE)
    assert not reads and again.count == 12
    assert all((a == b).all() for a, b in zip(first, moments(again), strict=True))
    moved = folder.rename(tmp_path / "moved")
    latent_cache.precompute(base, pairs(moved), tmp_path, ALONE)
    assert not reads
    Image.new("RGB", (96, 64), "red").save(moved / "7.png")
    changed = moments(latent_cache.precompute(base, pairs(moved), tmp_path, ALONE))
    assert set(reads) == {f"{number}.png" for number in range(5, 10)}
    assert [bool((a == b).all()) for a, b in zip(first, changed, strict=True)] == [row != 7 for row in range(12)]


@pytest.mark.usefixtures("small")
def test_a_row_that_could_not_be_read_is_tried_again(base, tmp_path, reads) -> None:
    """Alone, although its chunk is stored: at every start, and once it can be read, it is cached."""
    folder = write_pairs(tmp_path / "pairs")
    whole = (folder / "7.png").read_bytes()
    seen = (folder / "7.png").stat()
    (folder / "7.png").write_bytes(whole[: len(whole) // 2].ljust(len(whole), b"\0"))
    os.utime(folder / "7.png", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    cache = latent_cache.precompute(base, pairs(folder), tmp_path, ALONE)
    assert cache.count == 11 and cache.moments(7, CropView()) is None
    reads.clear()
    latent_cache.precompute(base, pairs(folder), tmp_path, ALONE)
    assert set(reads) == {"7.png"}
    (folder / "7.png").write_bytes(whole)
    os.utime(folder / "7.png", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    cache = latent_cache.precompute(base, pairs(folder), tmp_path, ALONE)
    assert cache.count == 12 and cache.moments(7, CropView()) is not None


@pytest.mark.usefixtures("small")
def test_shapes_and_views_have_their_own_entries(base, tmp_path) -> None:
    folder = write_pairs(tmp_path / "pairs")
    mirrored = pairs(folder, flip=0.5, buckets=True)
    assert mirrored.shapes().tolist() == [list(mirrored.shape(row)) for row in range(12)]
    cache = latent_cache.precompute(base, mirrored, tmp_path, ALONE)
    assert cache.count == 24
    plain, flipped = cache.moments(3, CropView()), cache.moments(3, CropView(mirrored=True))
    assert not np.allclose(plain, flipped)
    assert latent_cache.precompute(base, pairs(folder), tmp_path, ALONE).count == 12


class Half(World):
    """One of two processes on a machine, which finds the other's share done."""

    def __init__(self, rank: int, done: list[object]) -> None:
        super().__init__("cpu")
        self.rank_here, self.done = rank, done

    local_count = 2

    @property
    def local_rank(self) -> int:
        return self.rank_here

    def gather_local(self, value):
        self.done.append(value)
        return [value, value]


@pytest.mark.usefixtures("small")
def test_processes_share_the_chunks(base, tmp_path, reads) -> None:
    """Each reads the images of its own chunks only."""
    folder = write_pairs(tmp_path / "pairs")
    for rank, own in ((0, [*range(5), 10, 11]), (1, range(5, 10))):
        reads.clear()
        source = pairs(folder)
        with latent_cache.ThreadPoolExecutor(1) as pool:
            filled = filling.Filling(base, source, source.views(), latent_cache.Store(tmp_path / "cache.sqlite"), pool)
            keys, count = latent_cache._fill_share(filled, len(source), tmp_path, Half(rank, []))
        assert set(reads) == {f"{number}.png" for number in own}
        assert count == len(own) and len(keys) == (2, 1)[rank]


def test_marks_tell_files_apart(tmp_path) -> None:
    """In a folder, in tar shards and in Parquet files with the images inside; not where a cell is a path."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    folder = write_pairs(tmp_path / "pairs", count=3)
    content = [(folder / f"{number}.png").read_bytes() for number in range(3)]
    texts = ["a", "b", "c"]
    parquet.write_table(pyarrow.table({"image": content, "text": texts}), tmp_path / "inside.parquet")
    paths = [f"pairs/{number}.png" for number in range(3)]
    parquet.write_table(pyarrow.table({"image": paths, "text": texts}), tmp_path / "paths.parquet")
    columns = Columns(has_conditions=False)
    for name in ("pairs", "inside.parquet"):
        source = open_source(tmp_path / name, columns)
        marks = [source[row].image.mark() for row in range(3)]
        assert None not in marks and len(set(marks)) == 3
        assert marks == [open_source(tmp_path / name, columns)[row].image.mark() for row in range(3)]
    assert open_source(tmp_path / "paths.parquet", columns)[0].image.mark() is None
