"""Parquet files, and cached data sets of the Hub."""

import json
import shutil
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from tests.unit.data.conftest import as_parquet, as_table, encoded, image, kept

from maquette.data.sources import unpacked
from maquette.data.sources.jsonl import Columns, RowError, read
from maquette.data.sources.open import open_source
from maquette.data.sources.pages import DICTIONARY, pages
from maquette.data.sources.parquet import open_hub, open_parquet
from maquette.errors import MaquetteError
from maquette.foundation.reading.files import open_regular

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("kind", ["image", "binary", "large", "struct", "path"])
def test_types_of_image_columns(kind, tmp_path) -> None:
    content = encoded(image())
    (tmp_path / "1.png").write_bytes(content)
    cell, type_ = {
        "image": ({"bytes": content, "path": "1.png"}, datasets.Image()),
        "binary": (content, datasets.Value("binary")),
        "large": (content, datasets.Value("large_binary")),
        "struct": ({"bytes": content}, {"bytes": datasets.Value("binary")}),
        "path": ("1.png", datasets.Value("string")),
    }[kind]
    features = datasets.Features({"image": type_, "text": datasets.Value("string")})
    table = datasets.Dataset.from_dict({"image": [cell], "text": ["a"]}, features)
    table.to_parquet(tmp_path / "0.parquet")
    source = open_parquet([tmp_path / "0.parquet"], Columns(has_conditions=False))
    assert read(source[0]).image == image()


def test_rows_are_numbered_from_0_in_each_file(tmp_path) -> None:
    files = [as_parquet([kept(n), kept(n + 1)], tmp_path / f"{n}.parquet") for n in range(2)]
    assert [row.where for row in open_parquet(files)] == [f"{file}:{row}" for file in files for row in range(2)]


def test_images_are_neither_decoded_nor_loaded_into_memory(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(datasets.Image, "decode_example", lambda *_, **__: pytest.fail("was decoded"))
    source = open_parquet([as_parquet([kept(0)], tmp_path / "0.parquet")])
    before = pyarrow.total_allocated_bytes()
    assert read(source[0]).image == image(seed=0)
    assert pyarrow.total_allocated_bytes() - before < 2**16


def test_column_names_are_never_guessed(tmp_path) -> None:
    path = as_parquet([kept(0)], tmp_path / "0.parquet")
    with pytest.raises(MaquetteError, match=r"has no column 'edges' \(it has: 'image', 'conditioning_image', 'text'\)"):
        open_parquet([path], Columns(condition="edges"))
    with pytest.raises(MaquetteError, match=r"The column 'image' of .* holds Image.*, not text"):
        open_parquet([path], Columns(image="conditioning_image", text="image"))
    swapped = open_parquet([path], Columns("conditioning_image", "image"))
    assert swapped[0].image.read() == kept(0)["condition"]


def test_empty_cells(tmp_path) -> None:
    table = as_table([kept(0), kept(1)]).to_dict()
    table["image"][0] = table["text"][1] = None
    datasets.Dataset.from_dict(table, as_table([kept(0)]).features).to_parquet(tmp_path / "0.parquet")
    source = open_parquet([tmp_path / "0.parquet"])
    with pytest.raises(RowError, match=r"0\.parquet:0: There is no image at .*0\.parquet:0:image' \(the cell is empty"):
        read(source[0])
    with pytest.raises(RowError, match=r"0\.parquet:1: 'text' is empty"):
        source[1]


def test_files_that_cannot_be_read(tmp_path) -> None:
    path = as_parquet([kept(0)], tmp_path / "0.parquet")
    (tmp_path / "cut.parquet").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MaquetteError, match=r"cut\.parquet' cannot be read as a Parquet file"):
        open_source(f"{tmp_path}/*.parquet")
    (tmp_path / "cut.parquet").unlink()
    parquet.write_table(pyarrow.table({"number": [1]}), tmp_path / "other.parquet")
    with pytest.raises(MaquetteError, match="and the 1 after it cannot be read as one table"):
        open_source(tmp_path)


def test_without_the_library(tmp_path, monkeypatch) -> None:
    path = as_parquet([kept(0)], tmp_path / "0.parquet")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        MaquetteError, match=r"0\.parquet' is read with the library datasets: pip install 'maquette\[data\]'"
    ):
        open_source(path)
    with pytest.raises(MaquetteError, match=r"There is no file or folder 'org/pairs' here, .* 'maquette\[data\]'"):
        open_source("org/pairs")


def cached(folder, own_cache, config="default", **splits) -> None:
    """Fill the cache as a download of org/pairs does."""
    files = {split: str(as_parquet(pairs, folder / f"{split}.parquet")) for split, pairs in splits.items()}
    builder = datasets.load_dataset_builder("parquet", data_files=files)
    builder.dataset_name = "pairs"
    builder.download_and_prepare()
    there = own_cache / "org___pairs" / config / "0.0.0" / COMMIT
    shutil.copytree(builder.cache_dir, there)
    info = json.loads((there / "dataset_info.json").read_text())
    (there / "dataset_info.json").write_text(json.dumps(info | {"config_name": config}))


def test_the_cache_stands_in_for_the_hub(tmp_path, own_cache) -> None:
    cached(tmp_path, own_cache, train=[kept(0), kept(1)], test=[kept(2)])
    source = open_source("org/pairs")
    assert [row.where for row in source] == ["org/pairs:train:0", "org/pairs:train:1"]
    assert read(source[1]).image == image(seed=1)
    assert read(open_hub("org/pairs:test")[0]).image == image(seed=2)
    assert len(open_hub(f"org/pairs@{COMMIT}:default/train")) == 2
    with pytest.raises(MaquetteError, match=r"'org/pairs' has no split 'all' \(it has: train, test\)"):
        open_hub("org/pairs:all")
    with pytest.raises(MaquetteError, match=f"the cache has its commit {COMMIT}, which may differ"):
        open_hub("org/pairs@main")


def test_configurations_are_named_not_chosen(tmp_path, own_cache) -> None:
    cached(tmp_path, own_cache, "edges", train=[kept(0)])
    cached(tmp_path, own_cache, "depth", train=[kept(1)])
    with pytest.raises(MaquetteError, match=r"configurations in the cache: (edges, depth|depth, edges)"):
        open_hub("org/pairs")
    assert read(open_hub("org/pairs:depth/train")[0]).image == image(seed=1)


def test_the_hub_cannot_be_reached() -> None:
    with pytest.raises(
        MaquetteError, match="'org/pairs' is neither a file nor a folder, and is not available on the Hub"
    ):
        open_source("org/pairs")


def repeated(values: pyarrow.Array, rows: int, path: Path) -> Path:
    """A table whose texts are `rows` references to the values of a dictionary, in turn."""
    numbers = pyarrow.array(np.arange(rows) % len(values), pyarrow.int32())
    texts = pyarrow.DictionaryArray.from_arrays(numbers, values)
    table = pyarrow.table({"image": pyarrow.array(["1.png"] * rows), "text": texts})
    parquet.write_table(table, path, store_schema=False)
    return path


def test_a_small_file_does_not_fill_the_disk(tmp_path, monkeypatch) -> None:
    """A text of a megabyte in 100,000 rows takes 50 kB, and 98 GiB unpacked; zeros pack even better."""
    bomb = repeated(pyarrow.array(["a" * 2**20]), 100_000, tmp_path / "dictionary.parquet")
    assert bomb.stat().st_size < 10**6
    with pytest.raises(MaquetteError, match=r"dictionary.parquet' takes .* unpacks to over 2.0 GiB"):
        open_parquet([bomb], Columns(has_conditions=False))
    zeros = pyarrow.table({"image": pyarrow.array([bytes(2**23)] * 2), "text": ["a", "b"]})
    parquet.write_table(zeros, tmp_path / "zeros.parquet", compression="zstd", use_dictionary=False)
    monkeypatch.setattr(unpacked, "MOST", 2**23)
    with pytest.raises(MaquetteError, match=r"zeros.parquet' takes .* unpacks to over 0.0 GiB"):
        open_parquet([tmp_path / "zeros.parquet"], Columns(has_conditions=False))


def zigzag(number: int) -> bytes:
    """A whole number as Thrift writes it."""
    number, written = number << 1, bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes([*written, number])


def forged(path: Path, old: tuple[int, int], new: tuple[int, int], mark: bytes) -> Path:
    """A Parquet file whose footer says two other numbers of a column, each behind `mark`."""
    content = path.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    first, second = (b"".join(mark + zigzag(number) for number in pair) for pair in (old, new))
    assert first in content[start:]
    footer = content[start:-8].replace(first, second)
    made = path.with_name(f"forged {path.name}")
    made.write_bytes(content[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    return made


SIZES, PLACES = b"\x16", b"\x26"  # before the sizes of a column, and before the places of its pages


@pytest.mark.parametrize("packed", [0, 2**40])
def test_a_footer_that_lies_does_not_fill_the_disk(packed, tmp_path, monkeypatch) -> None:
    """Of what it unpacks to, Arrow itself believes the pages; a size beyond the file it refuses."""
    zeros = pyarrow.table({"image": pyarrow.array([bytes(2**23)] * 2), "text": ["a", "b"]})
    path = tmp_path / "zeros.parquet"
    parquet.write_table(zeros, path, compression="zstd", use_dictionary=False)
    column = parquet.read_metadata(path).row_group(0).column(0)
    honest = (column.total_uncompressed_size, column.total_compressed_size)
    lying = forged(path, honest, (20, packed or honest[1]), SIZES)
    assert packed or parquet.read_table(lying).nbytes > 2**24
    monkeypatch.setattr(unpacked, "MOST", 2**23)
    with pytest.raises(MaquetteError, match=r"zeros.parquet' takes .* unpacks to over 0.0 GiB"):
        open_parquet([lying], Columns(has_conditions=False))


def test_a_dictionary_that_the_footer_hides(tmp_path, monkeypatch) -> None:
    bomb = repeated(pyarrow.array(["a" * 2**16]), 1000, tmp_path / "dictionary.parquet")
    column = parquet.read_metadata(bomb).row_group(0).column(1)
    places = (column.data_page_offset, column.dictionary_page_offset)
    hidden = forged(bomb, places, (places[1], 0), PLACES)
    assert parquet.read_metadata(hidden).row_group(0).column(1).dictionary_page_offset == 0
    assert parquet.read_table(hidden).nbytes > 2**25
    monkeypatch.setattr(unpacked, "MOST", 2**23)
    with pytest.raises(MaquetteError, match=r"dictionary.parquet' takes .* unpacks to over 0.0 GiB"):
        open_parquet([hidden], Columns(has_conditions=False))


def test_texts_that_share_their_beginning_do_not_fill_the_disk(tmp_path, monkeypatch) -> None:
    texts = pyarrow.table({"image": ["1.png"] * 1000, "text": ["a" * 2**16] * 1000})
    encoding = {"image": "PLAIN", "text": "DELTA_BYTE_ARRAY"}
    parquet.write_table(texts, tmp_path / "0.parquet", use_dictionary=False, column_encoding=encoding)
    assert (tmp_path / "0.parquet").stat().st_size < 10**5
    monkeypatch.setattr(unpacked, "MOST", 2**23)
    with pytest.raises(MaquetteError, match=r"0.parquet' takes .* unpacks to over 0.0 GiB"):
        open_parquet([tmp_path / "0.parquet"], Columns(has_conditions=False))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("packed", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("dictionary", [False, True])
def test_pages_add_up_to_what_an_honest_footer_says(version, packed, dictionary, tmp_path) -> None:
    """Its sizes are those of pages with their heads."""
    texts = [None if number % 7 == 0 else f"{number % 90} a red house" * 20 for number in range(5000)]
    table = pyarrow.table({"text": texts, "image": [{"bytes": b"1" * (number % 50)} for number in range(5000)]})
    path, options = tmp_path / "0.parquet", {"data_page_version": version, "data_page_size": 4096}
    parquet.write_table(table, path, compression=packed, use_dictionary=dictionary, row_group_size=2000, **options)
    metadata = parquet.read_metadata(path)
    for number in range(metadata.num_row_groups * 2):
        column = metadata.row_group(number // 2).column(number % 2)
        with open_regular(path) as stream:
            found = list(pages(stream, column, path.stat().st_size))
        assert sum(page.values for page in found if page.kind != DICTIONARY) == column.num_values
        heads = column.total_uncompressed_size - sum(page.unpacked for page in found)
        assert 10 * len(found) <= heads <= 1000 * len(found)


def test_texts_that_repeat_are_no_attack(tmp_path) -> None:
    """They could stand for 2.8 GiB by their number and the size of them all; counted, it is 30 MB."""
    texts = pyarrow.array([f"{number} " + "a red house " * 12 for number in range(1000)])
    path = repeated(texts, 20_000, tmp_path / "0.parquet")
    source = open_parquet([path], Columns(has_conditions=False))
    assert source[1001].text == texts[1].as_py()
