"""A data set in Parquet files or on the Hub, read with the library `datasets`: its Arrow tables are memory-mapped.

A cell holds an image as encoded bytes, as a path, or as both (`datasets`' Image); none is decoded here.
Rows are numbered from 0, as in `datasets` and the Hub's viewer.
"""

import itertools
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.data.sources.jsonl import (
    DEFAULT_COLUMNS,
    BadRow,
    Columns,
    Names,
    Row,
    RowError,
    found,
    leaves,
    mark_of,
)
from maquette.data.sources.unpacked import check_unpacked
from maquette.errors import MaquetteError, shortened
from maquette.foundation.reading.files import check_regular, read_bytes
from maquette.foundation.reading.pictures import MOST_BYTES

DEFAULT_NAMES = Names("image", "conditioning_image", "text")
HUB = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?(:((?P<config>[\w.-]+)/)?(?P<split>[\w.-]+))?")
"""org/name, org/name@revision, org/name:split and org/name:configuration/split."""


@dataclass(frozen=True)
class Cell:
    """An image in a table.

    Args:
        table: a `datasets.Dataset` of this column alone.
        folders: a path in the cell is relative to the first, and lies in one of them unless `columns` allow others.
        files: what changes when the table's files do; None where that does not tell, as with paths to other files.
    """

    name: str
    table: Any
    number: int
    folders: Sequence[Path]
    columns: Columns
    files: bytes | None = None

    def mark(self) -> bytes | None:
        return None if self.files is None else self.files + repr((self.name, self.number)).encode()

    def read(self) -> bytes:
        """Its encoded bytes. Raises `OSError` if the cell is empty or its file cannot be read."""
        (value,) = _cells(self.table, self.number)
        if isinstance(value, dict):
            value = value.get("path") if value.get("bytes") is None else value["bytes"]
        if value is None:
            raise OSError("the cell is empty")
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str):
            raise OSError(f"the cell holds {shortened(repr(value), 40)}, no image")
        path = next(filter(None, (found(value, folder, self.columns) for folder in self.folders)), None)
        if path is None:
            raise OSError(f"the cell {leaves(shortened(value))}")
        return read_bytes(path, MOST_BYTES)


class Table:
    """The rows of a `datasets.Dataset`.

    Args:
        places: the files or the split that it holds, in order: name, number of rows, and the folders that paths of
            images may lie in.

    Raises `RowError` for the index of a row whose text is empty or is no text.
    """

    def __init__(
        self, dataset: Any, places: Sequence[tuple[str, int, Sequence[Path]]], names: Names, columns: Columns
    ) -> None:
        self.faults: Sequence[BadRow] = ()  # every row parses here; its cells are checked when they are read
        self._names, self._places, self._columns = names, places, columns
        self._firsts = list(itertools.accumulate((count for _, count, _ in places), initial=0))
        self._texts = dataset.select_columns([names.text]) if names.text else None
        tables = [(name, _encoded(dataset, name)) for name in (names.image, names.condition) if name]
        self._images = [(name, column, _files_of(column, name)) for name, column in tables]

    def __len__(self) -> int:
        return self._firsts[-1]

    def __getitem__(self, number: int) -> Row:
        number = range(len(self))[number]
        place = bisect_right(self._firsts, number) - 1
        name, _, folders = self._places[place]
        where = f"{name}:{number - self._firsts[place]}"
        text = self._text(number, where)
        image, *condition = (
            Cell(f"{where}:{column}", table, number, folders, self._columns, files)
            for column, table, files in self._images
        )
        return Row(where, image, condition[0] if condition else None, text)

    def _text(self, number: int, where: str) -> str:
        if self._texts is None:
            return ""
        try:
            (text,) = _cells(self._texts, number)
        except OSError as error:
            raise RowError(where, f"{self._names.text!r} cannot be read ({error})") from error
        if text is None:
            raise RowError(where, f"{self._names.text!r} is empty; write '' for an image without text")
        return str(text)


def _cells(table: Any, number: int) -> Sequence[Any]:
    """The values of a row. Raises `OSError` where they cannot be decoded, such as bytes that are not UTF-8."""
    try:
        return list(table[number].values())
    except Exception as error:  # Arrow checks values when they are read, and `datasets` converts them
        raise OSError(f"its value is broken: {_reason(error)}") from error


def open_parquet(files: Sequence[Path], columns: Columns = DEFAULT_COLUMNS) -> Table:
    """Open Parquet files as one table.

    `datasets` unpacks the columns that are needed into its cache, once; from there they are memory-mapped.
    Raises `MaquetteError` if a file cannot be read or would unpack to far more than it takes, or a column is missing or
    of another type.
    """
    datasets = _library(f"{str(files[0])!r} is read")
    from pyarrow import parquet

    places = []
    for file in files:
        with _readable(repr(str(file)), "as a Parquet file"):
            check_regular(file)
            places.append((str(file), parquet.read_metadata(file).num_rows, (file.parent,)))
    with _readable(repr(str(files[0])), "as a table"):
        features = datasets.Features.from_arrow_schema(parquet.read_schema(files[0]))
    names = _checked(features, columns, str(files[0]))
    needed = [name for name in features if name in (names.image, names.condition, names.text)]
    for file in files:
        with _readable(repr(str(file)), "as a Parquet file"):
            check_unpacked(file, needed)
    first = f"{str(files[0])!r} and the {len(files) - 1} after it" if len(files) > 1 else repr(str(files[0]))
    with _readable(first, "as one table"):
        table = datasets.Dataset.from_parquet([str(file) for file in files], columns=needed)
    return Table(table, places, names, columns)


@contextmanager
def _readable(name: str, how: str) -> Iterator[None]:
    """Raises `MaquetteError` for any error of Arrow or of `datasets` inside; broken files cause many types."""
    try:
        yield
    except MaquetteError:
        raise
    except Exception as error:
        raise MaquetteError(f"{name} cannot be read {how} ({_reason(error.__cause__ or error)}).") from error


def open_hub(name: str, columns: Columns = DEFAULT_COLUMNS) -> Table:
    """Open a data set of the Hub: downloaded once, and read from the cache when offline.

    Args:
        name: see `HUB`. Without a split: the only one, or "train".

    Raises `MaquetteError` if it is not available, or a column is missing or of another type.
    """
    match = HUB.fullmatch(name)
    assert match is not None, f"{name} is not a name on the Hub"
    datasets = _library(f"There is no file or folder {name!r} here, and data sets on the Hub are read")
    try:
        builder = datasets.load_dataset_builder(match["id"], match["config"], revision=match["revision"])
        builder.download_and_prepare()
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise MaquetteError(
            f"{name!r} is neither a file nor a folder, and is not available on the Hub or in its cache "
            f"({_reason(error)})."
        ) from error
    _check_revision(builder, name, match["revision"])
    split = _split(builder.info.splits, match["split"], match["id"])
    dataset = builder.as_dataset(split)
    names = _checked(dataset.features, columns, name)
    return Table(dataset, [(f"{match['id']}:{split}", len(dataset), _cache_folders())], names, columns)


def _cache_folders() -> Sequence[Path]:
    """Where the library keeps what it downloads from the Hub."""
    from datasets import config
    from huggingface_hub import constants

    return [Path(config.HF_DATASETS_CACHE), Path(constants.HF_HUB_CACHE), Path(config.DOWNLOADED_DATASETS_PATH)]


def _check_revision(builder: Any, name: str, revision: str | None) -> None:
    """Refuse another revision: `datasets` falls back to any cached one if the Hub cannot be reached or lacks it."""
    from datasets.packaged_modules.cache.cache import Cache

    if revision and isinstance(builder, Cache) and not builder.hash.startswith(revision):
        raise MaquetteError(
            f"{name!r} is not available on the Hub; the cache has its commit {builder.hash}, which may differ. Give "
            "that commit, or no revision."
        )


def _split(splits: Sequence[str], asked: str | None, name: str) -> str:
    """The requested split, the only one, or "train"."""
    split = asked or (next(iter(splits)) if len(splits) == 1 else "train")
    if split not in splits:
        raise MaquetteError(
            f"{name!r} has no split {split!r} (it has: {', '.join(splits)}); name one, as {name}:SPLIT."
        )
    return split


def _checked(features: Any, columns: Columns, where: str) -> Names:
    """The column names, all of which exist and have the right type."""
    names = columns.names(DEFAULT_NAMES)
    for name in filter(None, (names.image, names.condition)):
        _check(features, name, "images", where)
    if names.text:
        _check(features, names.text, "text", where)
    return names


def _check(features: Any, name: str, holds: str, where: str) -> None:
    """Refuse a column that is missing, or whose type cannot hold text or images."""
    if name not in features:
        columns = ", ".join(map(repr, features))
        raise MaquetteError(f"{where!r} has no column {name!r} (it has: {columns}); give the column's name.")
    feature = features[name]
    dtype = getattr(feature, "dtype", None)
    is_text = dtype in ("string", "large_string")
    is_struct = isinstance(feature, dict) and ("bytes" in feature or "path" in feature)
    is_image = is_text or is_struct or dtype in ("binary", "large_binary", "PIL.Image.Image")
    if not (is_text if holds == "text" else is_image):
        raise MaquetteError(f"The column {name!r} of {where!r} holds {feature}, not {holds}; name another.")


def _encoded(dataset: Any, name: str) -> Any:
    """A single column, so that no other is read along with it; images as bytes, not pixels."""
    from datasets import Image

    column = dataset.select_columns([name])
    is_decoded = isinstance(dataset.features[name], Image)
    return column.cast_column(name, Image(decode=False)) if is_decoded else column


def _files_of(column: Any, name: str) -> bytes | None:
    """What changes when the files of a column of images do; None where cells lie in memory, or may name other files."""
    from pyarrow import types

    cells = column.data.column(name)
    of_bytes = [chunk.field("bytes") if types.is_struct(cells.type) else chunk for chunk in cells.chunks]
    is_embedded = all(
        (types.is_binary(part.type) or types.is_large_binary(part.type)) and not part.null_count for part in of_bytes
    )
    if not (is_embedded and column.cache_files):
        return None
    return b"".join(mark_of(Path(file["filename"])) for file in column.cache_files)


def _library(purpose: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MaquetteError(f"{purpose} with the library datasets: pip install 'maquette[data]'.") from error
    return datasets


def _reason(error: BaseException) -> str:
    """The first two lines of a message: `datasets` lists the choices in the second."""
    return " ".join(str(error).strip().split("\n")[:2]).rstrip(".") or type(error).__name__
