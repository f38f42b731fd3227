"""Which members of a tar shard are rows, and where they lie: a few numbers a row, no object."""

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tarfile import ReadError

import numpy as np
from numpy.typing import NDArray

from maquette.data.sources.jsonl import BadRow
from maquette.data.sources.tar import members

Endings = Sequence[Sequence[str]]
"""Of each part of a row, what its names may end in, the one to be taken first in front."""

MEMBER = re.compile(rb"((?:.*/)?[^./]+)\.([^/]+)")  # key and ending; WebDataset too passes over all other names
ABSENT = 255
SHOWN = 8  # endings, in a message


@dataclass(frozen=True)
class Index:
    """The rows of a shard: 17 bytes a part, the key, and 8 bytes."""

    spans: NDArray[np.int64]  # (rows, parts, 2): start and size, bytes
    ranks: NDArray[np.uint8]  # (rows, parts): which of a part's endings it has
    keys: bytes  # one after the other
    ends: NDArray[np.int64]  # (rows,): of each key among them
    faults: list[BadRow]

    def __len__(self) -> int:
        return len(self.ends)

    def key(self, row: int) -> str:
        start = self.ends[row - 1] if row else 0
        return self.keys[start : self.ends[row]].decode("utf-8", "replace")


def scan(shard: Path, endings: Endings) -> Index:
    """Read a shard's headers. What keeps it from being read to its end is a fault, and a key that lacks a part."""
    found = _Members(endings)
    faults = []
    try:
        for name, start, size in members(shard):
            found.add(name, start, size)
    except ReadError as error:
        faults.append(BadRow(str(shard), str(error)))
    except OSError as error:
        faults.append(BadRow(str(shard), f"cannot be read ({error.strerror})"))
    return found.sorted_out(shard, faults)


class _Members:
    """The members met so far, by key."""

    def __init__(self, endings: Endings) -> None:
        self.endings = endings
        # later parts take precedence: a user who calls .png the condition does not mean it for the image too
        self.slots = {
            one.encode(): (part, rank) for part, names in enumerate(endings) for rank, one in enumerate(names)
        }
        self.numbers: dict[bytes, int] = {}  # of the keys, in the order in which they came
        self.spans, self.ranks = array("q"), bytearray()
        self.seen: set[bytes] = set()  # endings
        self.twice: set[int] = set()  # keys, by number

    def add(self, name: bytes, start: int, size: int) -> None:
        found = MEMBER.fullmatch(name)
        if found is None:
            return
        key, ending = found[1], found[2].lower()
        if len(self.seen) < SHOWN:
            self.seen.add(ending)
        if ending in self.slots:
            self._put(key, *self.slots[ending], start, size)

    def _put(self, key: bytes, part: int, rank: int, start: int, size: int) -> None:
        number = self.numbers.setdefault(key, len(self.numbers))
        if number * len(self.endings) == len(self.ranks):
            self.ranks.extend([ABSENT] * len(self.endings))
            self.spans.extend([0] * 2 * len(self.endings))
        slot = number * len(self.endings) + part
        if rank == self.ranks[slot]:
            self.twice.add(number)
        elif rank < self.ranks[slot]:
            self.ranks[slot] = rank
            self.spans[2 * slot], self.spans[2 * slot + 1] = start, size

    def sorted_out(self, shard: Path, faults: list[BadRow]) -> Index:
        spans = np.frombuffer(self.spans, np.int64).reshape(-1, len(self.endings), 2)
        ranks = np.frombuffer(self.ranks, np.uint8).reshape(-1, len(self.endings))
        complete = (ranks != ABSENT).all(axis=1)
        whole = complete.copy()
        whole[list(self.twice)] = False
        if complete.any():
            faults += [self._fault(shard, key, ranks[n]) for key, n in self.numbers.items() if not whole[n]]
        elif not faults:
            faults.append(BadRow(str(shard), self._no_rows()))
        keys = [key for key, number in self.numbers.items() if whole[number]]
        ends = np.cumsum([len(key) for key in keys], dtype=np.int64)
        return Index(spans[whole], ranks[whole], b"".join(keys), ends, faults)

    def _fault(self, shard: Path, key: bytes, ranks: NDArray[np.uint8]) -> BadRow:
        lacking = [_either(names) for names, rank in zip(self.endings, ranks, strict=True) if rank == ABSENT]
        reason = f"has no {' and no '.join(lacking)}" if lacking else "has members of one name; keys are to differ"
        return BadRow(f"{shard}:{key.decode('utf-8', 'replace')}", reason)

    def _no_rows(self) -> str:
        """In the place of as many faults as the shard has keys."""
        there = ", ".join(f".{one.decode('utf-8', 'replace')}" for one in sorted(self.seen)) or "nothing"
        wanted = ", ".join(_either(names) for names in self.endings)
        return f"has no key with all of {wanted} (it has: {there}); say what they are called"


def _either(names: Sequence[str]) -> str:
    return " or ".join(f".{name}" for name in names)
