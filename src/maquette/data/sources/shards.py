"""A data set in tar shards, as WebDataset has it: the members of one key are a row, at hand in any order.

The key of a member is its path up to the first dot of its file name; what follows the dot says which part it is:
`000001.jpg`, `000001.condition.png`, `000001.txt`. A part may have several names, parted by semicolons; of those that
a key has, the first counts.
"""

import itertools
import json
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from maquette.data.sources.jsonl import AS_USUAL, Columns, Names, Row, RowError
from maquette.data.sources.tar_index import scan
from maquette.errors import MaquetteError

FORMATS = ("jpg", "jpeg", "png", "webp")
USUAL = Names(";".join(FORMATS), ";".join(f"condition.{ending}" for ending in FORMATS), "txt;json")
MANY = 16  # shards, from which on a bar shows how far the scan is
AT_ONCE = 16  # shards are scanned: it is the disk that they wait for


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

    def read(self) -> bytes:
        with self.shard.open("rb") as file:
            file.seek(self.start)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError("the shard is shorter than when it was opened")
        return content


class Shards:
    """The rows of tar shards, one shard after the other. Headers are read on opening, contents when asked for.

    Args:
        columns: endings other than the usual ones, such as "canny.png" or "png;jpg".

    Raises `MaquetteError` when no shard has a row.
    """

    def __init__(self, shards: Sequence[Path], columns: Columns = AS_USUAL) -> None:
        names = columns.over(USUAL)
        self.shards = list(shards)
        self._names = names
        self._endings = [one.lower().split(";") for one in (names.image, names.text, names.condition) if one]
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
    """The words of a row; from JSON the value of `text`."""
    try:
        content = member.read().decode()
        values = json.loads(content) if member.ending.endswith("json") else {"text": content}
    except OSError as error:
        raise RowError(member.name, f"cannot be read ({error.strerror or error})") from error
    except ValueError as error:  # of UTF-8, or of JSON
        raise RowError(member.name, f"is no text in UTF-8, or no JSON ({error})") from error
    if not isinstance(values, dict) or not isinstance(values.get("text"), str):
        raise RowError(member.name, "is no JSON object with a 'text' that is words; give texts as .txt instead")
    return str(values["text"])
