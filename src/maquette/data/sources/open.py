"""Open a data set by its name; the format follows from the files found there."""

import itertools
import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from maquette.data.sources.diode import Diode, is_diode
from maquette.data.sources.folder import LAYOUTS, Folder, ImageFolder, find_index, images_in
from maquette.data.sources.jsonl import DEFAULT_COLUMNS, Columns, Source
from maquette.data.sources.parquet import HUB, open_hub, open_parquet
from maquette.data.sources.shards import Shards
from maquette.errors import MaquetteError

READERS: dict[str, Callable[[Sequence[Path], Columns], Source]] = {".tar": Shards, ".parquet": open_parquet}
"""By file extension. A folder with both is read as shards: download tools put Parquet logs beside them."""

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")
MOST_FILES = 10**6  # that a pattern may stand for


def open_source(name: str | Path, columns: Columns = DEFAULT_COLUMNS) -> Source:
    """Open a data set; no image is read yet.

    Args:
        name: a folder with metadata.jsonl or prompt.json; tar shards or Parquet files as a file, a folder of them or a
            pattern ("train-{000..099}.tar", "train-*.parquet"); a data set on the Hub (org/name, see `parquet.HUB`);
            a folder of DIODE; or, if no conditions are to be read, a folder of images alone.
        columns: column names other than the format's defaults.

    Raises `MaquetteError` if there are no such files, or none that can be read as pairs.
    """
    return find_reader(name, columns)()


def find_reader(name: str | Path, columns: Columns = DEFAULT_COLUMNS) -> Callable[[], Source]:
    """The function that opens a data set; no content is read yet.

    Raises `MaquetteError` if there are no such files, or none that can be read as pairs.
    """
    path = Path(name)
    if path.is_dir():
        if path.resolve() == Path(path.resolve().anchor):
            raise MaquetteError(f"{str(name)!r} is the root of the file system, not a data set; give its folder.")
        return _of_folder(path, columns)
    if is_local(name):
        return _of_files(expand(str(name)), columns)
    if HUB.fullmatch(str(name)):
        return partial(open_hub, str(name), columns)
    raise MaquetteError(f"There is no data set {str(name)!r}. {_TAKEN}")


def is_local(name: str | Path) -> bool:
    """Whether a name means local files, existing or not; all other names are the Hub's."""
    return Path(name).exists() or Path(name).suffix in READERS


def _of_folder(folder: Path, columns: Columns) -> Callable[[], Source]:
    if find_index(folder):
        return partial(Folder, folder, columns)
    for suffix, reader in READERS.items():
        files = sorted(file for file in folder.glob(f"*{suffix}") if not file.name.startswith("."))  # not half-written
        if files:
            return partial(reader, files, columns)
    if is_diode(folder):
        return partial(Diode, folder, columns)
    needs_columns = columns.has_conditions or columns.image or columns.text  # a folder of images alone has none
    if not needs_columns and (images := images_in(folder)):
        return partial(ImageFolder, folder, images, columns)
    raise MaquetteError(
        f"{str(folder)!r} holds no {', no '.join(LAYOUTS)}, and no *{' or *'.join(READERS)}; write a metadata.jsonl "
        'into it, one line per image: {"file_name": "1.png", "conditioning_image": "edges/1.png", "text": "a house"}.'
    )


def _of_files(files: Sequence[Path], columns: Columns) -> Callable[[], Source]:
    suffixes = {file.suffix for file in files}
    reader = READERS.get(suffixes.pop()) if len(suffixes) == 1 else None
    if reader is None:
        raise MaquetteError(f"{str(files[0])!r} has no format that pairs are read from. {_TAKEN}")
    return partial(reader, files, columns)


def expand(pattern: str) -> list[Path]:
    """The files that match a pattern: braces are expanded first, as in a shell, then asterisks.

    Raises `MaquetteError` if an expanded pattern matches no file.
    """
    if Path(pattern).exists():
        return [Path(pattern)]
    files: list[Path] = []
    for name in braces(pattern):
        anchor = Path(name).anchor
        matches = [Path(name)] if Path(name).exists() else sorted(Path(anchor).glob(name[len(anchor) :]))
        if not matches:
            raise MaquetteError(f"There is no file {name!r}" + (f", of {pattern!r}." if name != pattern else "."))
        files += matches
    return files


def braces(pattern: str) -> list[str]:
    """Expand `a{8..10}` to a8, a9, a10; `a{08..10}` to a08, a09, a10; `{a,b}` to a, b. Braces cannot be nested.

    Raises `MaquetteError` for a pattern of more than `MOST_FILES` files.
    """
    texts = BRACES.split(pattern)  # outside and inside braces, alternating
    choices = [_choices(text) if place % 2 else [text] for place, text in enumerate(texts)]
    if (count := math.prod(map(len, choices))) > MOST_FILES:
        raise MaquetteError(f"{pattern!r} stands for {count:,} files; {MOST_FILES:,} are the most.")
    return ["".join(parts) for parts in itertools.product(*choices)]


def _choices(inside: str) -> Sequence[str]:
    match = RANGE.fullmatch(inside)
    return inside.split(",") if match is None else _Numbers(*match.groups())


class _Numbers(Sequence[str]):
    """The numbers from first to last, with zeros in front as the first has them; none is written before it is used."""

    def __init__(self, first: str, last: str) -> None:
        self._numbers, self._width = range(int(first), int(last) + 1), len(first)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Any) -> Any:
        return str(self._numbers[place]).zfill(self._width)


_TAKEN = (
    f"Give a folder with {' or '.join(LAYOUTS)}; .tar (not compressed) or .parquet files, as a file, a folder of them "
    "or a quoted pattern; or org/name on the Hub."
)
