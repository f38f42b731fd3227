"""Opening data sets by name, and reading the same pairs from every format."""

import multiprocessing
import pickle
from pathlib import Path

import pytest
from tests.unit.data.conftest import as_folder, as_parquet, as_tar, kept

from maquette.data.sources.folder import Folder
from maquette.data.sources.jsonl import Columns, Example, Source, read
from maquette.data.sources.open import braces, expand, open_source
from maquette.data.sources.parquet import Table
from maquette.data.sources.shards import Shards
from maquette.errors import MaquetteError

PAIRS = [kept(seed, text) for seed, text in enumerate(["a red house", "ein rotes Haus, 红", "", "a blue\nhouse"])]


@pytest.fixture(params=["folder", "parquet", "tar"])
def source(request, tmp_path) -> Source:
    """The pairs, in two files if the format allows several."""
    if request.param == "folder":
        return open_source(as_folder(PAIRS, tmp_path / "pairs"))
    if request.param == "parquet":
        as_parquet(PAIRS[:3], tmp_path / "a.parquet")
        as_parquet(PAIRS[3:], tmp_path / "b.parquet")
        return open_source(tmp_path)
    as_tar(PAIRS[:3], tmp_path / "0.tar")
    as_tar(PAIRS[3:], tmp_path / "1.tar", first=3)
    return open_source(tmp_path)


def same(example: Example, other: Example) -> bool:
    return (example.image, example.condition, example.text) == (other.image, other.condition, other.text)


def test_a_pair_is_the_same_however_it_is_stored(source, tmp_path) -> None:
    plain = Folder(as_folder(PAIRS, tmp_path / "plain"))
    assert len(source) == len(plain) == len(PAIRS)
    assert not source.faults
    assert all(same(read(row), read(other)) for row, other in zip(source, plain, strict=True))
    assert len({row.where for row in source}) == len(PAIRS)


def test_a_source_reads_the_same_in_another_process(source) -> None:
    copy = pickle.loads(pickle.dumps(source))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        theirs = pool.map(read, pool.map(source.__getitem__, range(len(source))))
    for number, row in enumerate(source):
        assert same(read(copy[number]), read(row))
        assert same(theirs[number], read(row))


def test_rows_have_numbers_from_0_to_their_count(source) -> None:
    assert source[len(source) - 1].text == PAIRS[-1]["text"]
    with pytest.raises(IndexError):
        source[len(source)]


def test_conditions_that_a_detector_computes_are_not_read(source, tmp_path) -> None:
    kind = {Folder: tmp_path / "pairs", Table: tmp_path, Shards: tmp_path}[type(source)]
    assert all(row.condition is None for row in open_source(kind, Columns(has_conditions=False)))
    with pytest.raises(MaquetteError, match="either read from 'edges' or computed"):
        Columns(condition="edges", has_conditions=False)


def test_the_format_follows_from_the_files(tmp_path) -> None:
    as_parquet(PAIRS, tmp_path / "0.parquet")
    assert isinstance(open_source(tmp_path), Table)
    as_tar(PAIRS, tmp_path / "0.tar")
    assert isinstance(open_source(tmp_path), Shards)
    as_folder(PAIRS, tmp_path / "sub")
    (tmp_path / "sub" / "metadata.jsonl").rename(tmp_path / "metadata.jsonl")
    assert isinstance(open_source(str(tmp_path)), Folder)
    assert isinstance(open_source(tmp_path / "0.tar"), Shards)
    assert isinstance(open_source(f"{tmp_path}/*.parquet"), Table)
    with pytest.raises(
        MaquetteError, match=r"holds no metadata\.jsonl, no prompt\.json, and no \*\.tar or \*\.parquet"
    ):
        open_source(tmp_path / "sub")


@pytest.mark.parametrize("name", ["pairs", "https://somewhere/0.zip", "0.tar.gz", "pairs/*.tgz"])
def test_names_of_no_data_set(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0.tar.gz").write_bytes(b"")
    with pytest.raises(
        MaquetteError, match=r"Give a folder with .* \.tar \(not compressed\) .* or org/name on the Hub"
    ):
        open_source(name)


def test_braces() -> None:
    assert braces("a{08..10}b") == ["a08b", "a09b", "a10b"]
    assert braces("{8..10}") == ["8", "9", "10"]
    assert braces("{a,b}-{0..1}.tar") == ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]
    assert braces("plain") == ["plain"]


def test_patterns(tmp_path, monkeypatch) -> None:
    for name in ("a-00", "a-01", "a-02", "b", "odd [1]"):
        (tmp_path / f"{name}.tar").touch()
    monkeypatch.chdir(tmp_path)
    assert expand("a-{01..02}.tar") == [Path("a-01.tar"), Path("a-02.tar")]
    assert expand(f"{tmp_path}/a-*.tar") == [tmp_path / f"a-0{number}.tar" for number in range(3)]
    assert expand("{b,a-*}.tar")[:2] == [Path("b.tar"), Path("a-00.tar")]
    assert expand("odd [1].tar") == [Path("odd [1].tar")]
    with pytest.raises(MaquetteError, match=r"There is no file 'a-03\.tar', of 'a-\{02\.\.03\}\.tar'"):
        expand("a-{02..03}.tar")
