"""A data set in Parquet files or on the Hub, by the library `datasets`: its Arrow tables stay on the disk.

An image is in its cell as encoded bytes, as a path, or as both, which is `datasets`' Image; none is decoded here.
Rows are counted from 0, as `datasets` and the Hub's viewer count them.
"""

import itertools
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.data.sources.jsonl import AS_USUAL, BadRow, Columns, Names, Row, RowError
from maquette.errors import MaquetteError

USUAL = Names("image", "conditioning_image", "text")
HUB = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?(:((?P<config>[\w.-]+)/)?(?P<split>[\w.-]+))?")
"""org/name, org/name@revision, org/name:split and org/name:configuration/split."""


@dataclass(frozen=True)
class Cell:
    """An image in a table.

    Args:
        table: a `datasets.Dataset` of this one column.
        folder: to which a path in the cell is relative.
    """

    name: str
    table: Any
    number: int
    folder: Path

    def read(self) -> bytes:
        (value,) = self.table[self.number].values()
        if isinstance(value, dict):
            value = value["path"] if value.get("bytes") is None else value["bytes"]
        if value is None:
            raise OSError("the cell is empty")
        return value if isinstance(value, bytes) else (self.folder / value).read_bytes()


class Table:
    """The rows of a `datasets.Dataset`.

    Args:
        places: what it was made of, in its order: name, number of rows, and the folder of what has no bytes.
    """

    def __init__(self, dataset: Any, places: Sequence[tuple[str, int, Path]], names: Names) -> None:
        self.faults: Sequence[BadRow] = ()  # rows are rows here; what is in them is seen when they are read
        self._names, self._places = names, places
        self._firsts = list(itertools.accumulate((count for _, count, _ in places), initial=0))
        self._texts = dataset.select_columns([names.text]) if names.text else None
        self._images = [(name, _encoded(dataset, name)) for name in (names.image, names.condition) if name]

    def __len__(self) -> int:
        return self._firsts[-1]

    def __getitem__(self, number: int) -> Row:
        number = range(len(self))[number]
        place = bisect_right(self._firsts, number) - 1
        name, _, folder = self._places[place]
        where = f"{name}:{number - self._firsts[place]}"
        text = "" if self._texts is None else self._texts[number][self._names.text]
        if text is None:
            raise RowError(where, f"{self._names.text!r} is empty; write '' where an image has no words")
        image, *condition = (Cell(f"{where}:{column}", table, number, folder) for column, table in self._images)
        return Row(where, image, condition[0] if condition else None, text)


def open_parquet(files: Sequence[Path], columns: Columns = AS_USUAL) -> Table:
    """Parquet files, one after the other.

    `datasets` unpacks the columns that are wanted into its cache, once; its files are mapped, not read into memory.
    Raises `MaquetteError` when a file cannot be read, or a column is not there or holds something else.
    """
    datasets = _library(f"{str(files[0])!r} is read")
    import pyarrow
    from pyarrow import parquet

    places = []
    for file in files:
        try:
            places.append((str(file), parquet.read_metadata(file).num_rows, file.parent))
        except (OSError, pyarrow.ArrowException) as error:
            raise MaquetteError(f"{str(file)!r} is no Parquet file that can be read ({_reason(error)}).") from error
    features = datasets.Features.from_arrow_schema(parquet.read_schema(files[0]))
    names = _checked(features, columns, str(files[0]))
    wanted = [name for name in features if name in (names.image, names.condition, names.text)]
    try:
        table = datasets.Dataset.from_parquet([str(file) for file in files], columns=wanted)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        first = f"{str(files[0])!r} and the {len(files) - 1} after it" if len(files) > 1 else repr(str(files[0]))
        raise MaquetteError(f"{first} cannot be read as one table ({_reason(error.__cause__ or error)}).") from error
    return Table(table, places, names)


def open_hub(name: str, columns: Columns = AS_USUAL) -> Table:
    """A data set on the Hub, fetched once; from the cache when offline.

    Args:
        name: see `HUB`. Without a split: the only one, or "train".

    Raises `MaquetteError` when it cannot be had, or a column is not there or holds something else.
    """
    found = HUB.fullmatch(name)
    assert found is not None, f"{name} is no name on the Hub"
    datasets = _library(f"There is no file or folder {name!r} here, and data sets on the Hub are read")
    try:
        builder = datasets.load_dataset_builder(found["id"], found["config"], revision=found["revision"])
        builder.download_and_prepare()
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise MaquetteError(
            f"{name!r} is no file or folder here, and cannot be had from the Hub or its cache ({_reason(error)})."
        ) from error
    _check_revision(builder, name, found["revision"])
    split = _split(builder.info.splits, found["split"], found["id"])
    dataset = builder.as_dataset(split)
    names = _checked(dataset.features, columns, name)
    return Table(dataset, [(f"{found['id']}:{split}", len(dataset), Path())], names)


def _check_revision(builder: Any, name: str, revision: str | None) -> None:
    """`datasets` answers with whatever its cache has when the Hub does not know a revision or cannot be reached."""
    from datasets.packaged_modules.cache.cache import Cache

    if revision and isinstance(builder, Cache) and not builder.hash.startswith(revision):
        raise MaquetteError(
            f"{name!r} cannot be had from the Hub; the cache has the commit {builder.hash} of it, which may be another."
        )


def _split(splits: Sequence[str], asked: str | None, name: str) -> str:
    """The one asked for, the only one, or "train"."""
    split = asked or (next(iter(splits)) if len(splits) == 1 else "train")
    if split not in splits:
        raise MaquetteError(
            f"{name!r} has no split {split!r} (it has: {', '.join(splits)}); name one, as {name}:SPLIT."
        )
    return split


def _checked(features: Any, columns: Columns, where: str) -> Names:
    """What the columns are called, all of which are there."""
    names = columns.over(USUAL)
    for name in filter(None, (names.image, names.condition)):
        _check(features, name, "images", where)
    if names.text:
        _check(features, names.text, "words", where)
    return names


def _check(features: Any, name: str, holds: str, where: str) -> None:
    """That a column is there, and that its type can hold words or images."""
    if name not in features:
        there = ", ".join(map(repr, features))
        raise MaquetteError(f"{where!r} has no column {name!r} (it has: {there}); say what it is called.")
    feature = features[name]
    kind = getattr(feature, "dtype", None)
    words = kind in ("string", "large_string")
    is_struct = isinstance(feature, dict) and ("bytes" in feature or "path" in feature)
    images = words or is_struct or kind in ("binary", "large_binary", "PIL.Image.Image")
    if not (words if holds == "words" else images):
        raise MaquetteError(f"The column {name!r} of {where!r} holds {feature}, not {holds}; name another.")


def _encoded(dataset: Any, name: str) -> Any:
    """A column alone, so that no other is read with it; of images the bytes, not the pixels."""
    from datasets import Image

    column = dataset.select_columns([name])
    is_decoded = isinstance(dataset.features[name], Image)
    return column.cast_column(name, Image(decode=False)) if is_decoded else column


def _library(words: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MaquetteError(f"{words} by the library datasets: pip install 'maquette[data]'.") from error
    return datasets


def _reason(error: BaseException) -> str:
    """Two lines: `datasets` says in the second what there is to choose from."""
    return " ".join(str(error).strip().split("\n")[:2]).rstrip(".") or type(error).__name__
