"""A data set by its name: what lies there says how it is read."""

import itertools
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from maquette.data.sources.folder import LAYOUTS, Folder, find_index
from maquette.data.sources.image_folder import ImageFolder, images_in
from maquette.data.sources.jsonl import AS_USUAL, Columns, Source
from maquette.data.sources.parquet import HUB, open_hub, open_parquet
from maquette.data.sources.shards import Shards
from maquette.errors import MaquetteError

READERS: dict[str, Callable[[Sequence[Path], Columns], Source]] = {".tar": Shards, ".parquet": open_parquet}
"""By what the files' names end in. A folder with both is read as shards: download tools put tables of what they did
beside those."""

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")


def open_source(name: str | Path, columns: Columns = AS_USUAL) -> Source:
    """Open pairs of a user's own; no image is read yet.

    Args:
        name: a folder with metadata.jsonl or prompt.json; tar shards or Parquet files as a file, a folder of them or a
            pattern ("train-{000..099}.tar", "train-*.parquet"); a data set on the Hub (org/name, see `table.HUB`); or,
            where no conditions are to be read, a folder of images alone.
        columns: what the pairs' parts are called, where that is not what is usual there.
    """
    return find_reader(name, columns)()


def find_reader(name: str | Path, columns: Columns = AS_USUAL) -> Callable[[], Source]:
    """What opens a data set of that name; nothing of its content is read yet.

    Raises `MaquetteError` where no such files are there, or none that can be read as pairs.
    """
    path = Path(name)
    if path.is_dir():
        return _of_folder(path, columns)
    if is_local(name):
        return _of_files(expand(str(name)), columns)
    if HUB.fullmatch(str(name)):
        return partial(open_hub, str(name), columns)
    raise MaquetteError(f"There is no data set {str(name)!r}. {_TAKEN}")


def is_local(name: str | Path) -> bool:
    """Whether a name means files here, be they there or not; else it is one on the Hub."""
    return Path(name).exists() or Path(name).suffix in READERS


def _of_folder(folder: Path, columns: Columns) -> Callable[[], Source]:
    if find_index(folder):
        return partial(Folder, folder, columns)
    for suffix, reader in READERS.items():
        files = sorted(file for file in folder.glob(f"*{suffix}") if not file.name.startswith("."))  # not half-written
        if files:
            return partial(reader, files, columns)
    named = columns.has_conditions or columns.image or columns.text  # which a bare folder has not
    if not named and (images := images_in(folder)):
        return partial(ImageFolder, folder, images, columns)
    raise MaquetteError(
        f"{str(folder)!r} holds no {', no '.join(LAYOUTS)}, and no *{' or *'.join(READERS)}; write a metadata.jsonl "
        'into it, a line an image: {"file_name": "1.png", "conditioning_image": "edges/1.png", "text": "a red house"}.'
    )


def _of_files(files: Sequence[Path], columns: Columns) -> Callable[[], Source]:
    suffixes = {file.suffix for file in files}
    reader = READERS.get(suffixes.pop()) if len(suffixes) == 1 else None
    if reader is None:
        raise MaquetteError(f"{str(files[0])!r} is of no kind that is read as pairs. {_TAKEN}")
    return partial(reader, files, columns)


def expand(pattern: str) -> list[Path]:
    """The files that a pattern means: braces first, as a shell has them, then asterisks.

    Raises `MaquetteError` when one of them means no file.
    """
    if Path(pattern).exists():
        return [Path(pattern)]
    files: list[Path] = []
    for one in braces(pattern):
        anchor = Path(one).anchor
        found = [Path(one)] if Path(one).exists() else sorted(Path(anchor).glob(one[len(anchor) :]))
        if not found:
            raise MaquetteError(f"There is no file {one!r}" + (f", of {pattern!r}." if one != pattern else "."))
        files += found
    return files


def braces(pattern: str) -> list[str]:
    """`a{8..10}` as a8, a9, a10; `a{08..10}` as a08, a09, a10; `{a,b}` as a, b. Braces do not stand in braces."""
    texts = BRACES.split(pattern)  # outside and inside in turn
    choices = [_choices(text) if place % 2 else [text] for place, text in enumerate(texts)]
    return ["".join(parts) for parts in itertools.product(*choices)]


def _choices(inside: str) -> list[str]:
    found = RANGE.fullmatch(inside)
    if found is None:
        return inside.split(",")
    first, last = found.groups()
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


_TAKEN = (
    f"Give a folder with {' or '.join(LAYOUTS)}; .tar (not compressed) or .parquet files, as a file, a folder of them "
    "or a pattern in quotes; or org/name on the Hub."
)
