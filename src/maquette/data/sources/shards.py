"""A data set in tar shards in WebDataset's format: members with the same key form a row. Rows are read in any order.

The key of a member is its path up to the first dot of its file name; the ending after that dot names the part:
`000001.jpg`, `000001.condition.png`, `000001.txt`. A part may have several endings, separated by semicolons; the first
that a key has is read.
"""

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from maquette.data.sources.jsonl import DEFAULT_COLUMNS, Columns, Names, Row, RowError, mark_of
from maquette.data.sources.tar import scan
from maquette.errors import MaquetteError
from maquette.foundation.reading.documents import parse_json
from maquette.foundation.reading.files import open_regular
from maquette.foundation.reading.pictures import MOST_BYTES

FORMATS = ("jpg", "jpeg", "png", "webp")
DEFAULT_NAMES = Names(";".join(FORMATS), ";".join(f"condition.{ending}" for ending in FORMATS), "txt;json")
LONGEST = 2**20  # bytes of a text
MANY = 16  # shards: a scan of so many shows a progress bar
AT_ONCE = 16  # shards scanned concurrently: the disk is the bottleneck


@dataclass(frozen=True)
class Member:
    """A part of a row, in a shard."""

    shard: Path
    key: str
    ending: str
    start: int  # bytes
    size: int  # bytes

    @property
    def name(self) -> str:
        return f"{self.shard}:{self.key}.{self.ending}"

    def mark(self) -> bytes:
        return mark_of(self.shard, self.start, self.size)

    def read(self) -> bytes:
        """Its bytes. Raises `OSError` if the shard cannot be read or has been cut, and for a member without end."""
        if self.size > MOST_BYTES:
            raise OSError(f"it is larger than {MOST_BYTES:,} bytes")
        with open_regular(self.shard) as file:
            file.seek(self.start)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError("the shard is shorter than when it was opened")
        return content


class Shards:
    """The rows of tar shards, shard by shard. Headers are read on opening, contents on demand.

    Args:
        columns: endings other than the default ones, such as "canny.png" or "png;jpg".

    Raises `MaquetteError` if no shard has a row.
    """

    def __init__(self, shards: Sequence[Path], columns: Columns = DEFAULT_COLUMNS) -> None:
        names = columns.names(DEFAULT_NAMES)
        self.shards = list(shards)
        self._names = names
        self._endings = [part.lower().split(";") for part in (names.image, names.text, names.condition) if part]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            scans = pool.map(lambda shard: scan(shard, self._endings), self.shards)
            self._indices = list(tqdm(scans, "shards", len(self.shards), disable=len(self.shards) < MANY))
        self.faults = [fault for index in self._indices for fault in index.faults]
        self.blocks = [len(index) for index in self._indices]  # rows in each shard
        self._firsts = list(itertools.accumulate(self.blocks, initial=0))
        if not len(self):
            fault = self.faults[0]
            raise MaquetteError(f"The shards hold no row that can be read. The first: {fault.where!r} {fault.reason}.")

    def __len__(self) -> int:
        return self._firsts[-1]

    def __getitem__(self, number: int) -> Row:
        number = range(len(self))[number]
        place = bisect_right(self._firsts, number) - 1
        shard, index, row = self.shards[place], self._indices[place], number - self._firsts[place]
        key, ranks, spans = index.key(row), index.ranks[row].tolist(), index.spans[row].tolist()
        image, *others = (
            Member(shard, key, endings[rank], *span)
            for endings, rank, span in zip(self._endings, ranks, spans, strict=True)
        )
        text = _text(others.pop(0)) if self._names.text else ""
        return Row(f"{shard}:{key}", image, others[0] if others else None, text)


def _text(member: Member) -> str:
    """The text of a row; of a JSON member the value of `text`."""
    if member.size > LONGEST:
        raise RowError(member.name, f"is longer than {LONGEST:,} bytes")
    try:
        content = member.read()
        values = parse_json(content) if member.ending.endswith("json") else {"text": content.decode()}
    except OSError as error:
        raise RowError(member.name, f"cannot be read ({error.strerror or error})") from error
    except ValueError as error:  # of UTF-8, or of JSON
        raise RowError(member.name, f"is not UTF-8 text, or not JSON ({error})") from error
    if not isinstance(values, dict) or not isinstance(values.get("text"), str):
        raise RowError(member.name, "is not a JSON object with a string 'text'; store texts as .txt instead")
    return str(values["text"])
