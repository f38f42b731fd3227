"""The rows of a tar shard and the offsets of their members, as compact arrays rather than objects."""

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
"""The endings of each part of a row, in order of preference."""

MEMBER = re.compile(rb"((?:.*/)?[^./]+)\.([^/]+)")  # key and ending; like WebDataset, all other names are skipped
ABSENT = 255
SHOWN = 8  # endings in a message


@dataclass(frozen=True)
class Index:
    """The rows of a shard; each takes 17 bytes per part, its key, and 8 bytes."""

    spans: NDArray[np.int64]  # (rows, parts, 2): start and size in bytes
    ranks: NDArray[np.uint8]  # (rows, parts): index of the ending among the part's endings
    keys: bytes  # concatenated
    ends: NDArray[np.int64]  # (rows,): where each key ends in `keys`
    faults: list[BadRow]

    def __len__(self) -> int:
        return len(self.ends)

    def key(self, row: int) -> str:
        start = self.ends[row - 1] if row else 0
        return self.keys[start : self.ends[row]].decode("utf-8", "replace")


def scan(shard: Path, endings: Endings) -> Index:
    """Read a shard's headers. Its faults are the error that stopped the scan, if any, and keys that lack a part."""
    scanned = _Members(endings)
    faults = []
    try:
        for name, start, size in members(shard):
            scanned.add(name, start, size)
    except ReadError as error:
        faults.append(BadRow(str(shard), str(error)))
    except OSError as error:
        faults.append(BadRow(str(shard), f"cannot be read ({error.strerror})"))
    return scanned.index(shard, faults)


class _Members:
    """The members scanned so far, by key."""

    def __init__(self, endings: Endings) -> None:
        self.endings = endings
        # later parts win: an ending that the user names for the condition is not the image's too
        self.slots = {
            ending.encode(): (part, rank) for part, names in enumerate(endings) for rank, ending in enumerate(names)
        }
        self.numbers: dict[bytes, int] = {}  # of the keys, in order of appearance
        self.spans, self.ranks = array("q"), bytearray()
        self.seen: set[bytes] = set()  # endings
        self.duplicates: set[int] = set()  # numbers of keys with two members of the same name

    def add(self, name: bytes, start: int, size: int) -> None:
        match = MEMBER.fullmatch(name)
        if match is None:
            return
        key, ending = match[1], match[2].lower()
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
            self.duplicates.add(number)
        elif rank < self.ranks[slot]:
            self.ranks[slot] = rank
            self.spans[2 * slot], self.spans[2 * slot + 1] = start, size

    def index(self, shard: Path, faults: list[BadRow]) -> Index:
        spans = np.frombuffer(self.spans, np.int64).reshape(-1, len(self.endings), 2)
        ranks = np.frombuffer(self.ranks, np.uint8).reshape(-1, len(self.endings))
        complete = (ranks != ABSENT).all(axis=1)
        usable = complete.copy()
        usable[list(self.duplicates)] = False
        if complete.any():
            faults += [self._fault(shard, key, ranks[n]) for key, n in self.numbers.items() if not usable[n]]
        elif not faults:
            faults.append(BadRow(str(shard), self._no_rows()))
        keys = [key for key, number in self.numbers.items() if usable[number]]
        ends = np.cumsum([len(key) for key in keys], dtype=np.int64)
        return Index(spans[usable], ranks[usable], b"".join(keys), ends, faults)

    def _fault(self, shard: Path, key: bytes, ranks: NDArray[np.uint8]) -> BadRow:
        missing = [_either(names) for names, rank in zip(self.endings, ranks, strict=True) if rank == ABSENT]
        reason = f"has no {' and no '.join(missing)}" if missing else "has two members of the same name; rename one"
        return BadRow(f"{shard}:{key.decode('utf-8', 'replace')}", reason)

    def _no_rows(self) -> str:
        """One message instead of a fault for every key."""
        seen = ", ".join(f".{ending.decode('utf-8', 'replace')}" for ending in sorted(self.seen)) or "nothing"
        expected = ", ".join(_either(names) for names in self.endings)
        return f"has no key with all of {expected} (it has: {seen}); give the endings' names"


def _either(names: Sequence[str]) -> str:
    return " or ".join(f".{name}" for name in names)
