"""The members of a tar and their offsets: its headers are read in turn, and nothing is unpacked or kept.

`tarfile` takes three times as long, and stops silently at a broken header, as if there were no more members. Every
number that a file states is held against the length of the file.
"""

import os
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tarfile import ReadError
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from maquette.data.sources.jsonl import BadRow
from maquette.foundation.reading.files import open_regular

BLOCK = 512  # bytes: the size of a header; contents are padded to a multiple
END = bytes(BLOCK)
PADDING = 2**20  # bytes: the largest record that a tar is padded to, by any usual blocking factor
LONGEST = 2**20  # bytes of an extension of a header
FILES = (b"0", b"\0", b"7")  # type flags of regular files
LONG_NAME, RECORDS = b"L", (b"x", b"X")  # type flags of GNU's and POSIX's extensions of the next header
RECORD_LENGTH = re.compile(rb"([0-9]{1,9}) ")
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def members(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and size in bytes of each file in a tar, in order.

    Raises `tarfile.ReadError`, after the members before it, if the file is compressed, cut off or not a tar.
    """
    with open_regular(path) as file:
        end = os.fstat(file.fileno()).st_size
        offset = 0
        name, size = None, None  # from an extension of the next header
        while offset < end:
            file.seek(offset)
            header = file.read(BLOCK)
            if header == END:
                _check_end(file, offset, end)
                return
            flag, short_name, length = _header(header, offset)
            length = length if size is None else size
            start = offset + BLOCK
            if start + length > end:
                raise ReadError(f"is cut off: {start + length - end:,} bytes of a member are missing")
            offset = start + (length + BLOCK - 1) // BLOCK * BLOCK
            if flag == LONG_NAME:
                name = _extension(file, length).rstrip(b"\0")
            elif flag in RECORDS:
                records = _records(_extension(file, length))
                name, size = records.get(b"path", name), _stated_size(records)
            else:
                if flag in FILES:
                    yield name or short_name, start, length
                name, size = None, None
    raise ReadError("ends without the mark of an end, so that members may be missing" if end else "is empty")


def _check_end(file: BinaryIO, offset: int, end: int) -> None:
    """Check that nothing but padding follows the first block of zeros, at `offset`.

    Raises `tarfile.ReadError` for a file that goes on, such as one that was allocated and not downloaded whole.
    """
    file.seek(offset)
    if end - offset > PADDING or any(file.read(end - offset)):
        raise ReadError(f"ends at byte {offset:,} of {end:,}, and goes on; copy it again")


def _extension(file: BinaryIO, length: int) -> bytes:
    """The content of an extension of the next header."""
    if length > LONGEST:
        raise ReadError(f"is broken: an extended header of {length:,} bytes")
    return file.read(length)


def _stated_size(records: Mapping[bytes, bytes]) -> int | None:
    """The size in bytes of the next member, if an extended header states it."""
    stated = records.get(b"size")
    if stated is not None and not re.fullmatch(rb"[0-9]{1,19}", stated):
        raise ReadError(f"is broken: an extended header states the size {stated[:20]!r}")
    return None if stated is None else int(stated)


def _header(block: bytes, offset: int) -> tuple[bytes, bytes, int]:
    """A member's type flag, its name and the size of its content in bytes."""
    if len(block) < BLOCK:
        raise ReadError(f"is cut off: it ends within a header, at byte {offset + len(block):,}")
    try:
        is_valid = sum(block) - sum(block[148:156]) + 8 * ord(" ") == _number(block[148:156])
        size = _number(block[124:136])
    except ValueError:
        is_valid, size = False, 0
    if not is_valid:
        formats = (name for magic, name in COMPRESSED.items() if block.startswith(magic))
        if offset == 0 and (compression := next(formats, None)):
            raise ReadError(f"is compressed ({compression}), so its rows cannot be read in any order; unpack it first")
        raise ReadError(f"is {'broken' if offset else 'not a tar'}: there is no header at byte {offset:,}")
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return block[156:157], prefix + b"/" + name if prefix else name, size


def _number(field: bytes) -> int:
    """An integer as octal digits, or for large ones in GNU's binary form, marked by the highest bit."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
    digits = field.strip(b" \0") or b"0"
    if not digits.isdigit():  # `int` takes signs, spaces and underscores too
        raise ValueError(digits)
    return int(digits, 8)


def _records(content: bytes) -> dict[bytes, bytes]:
    """POSIX's extended header, lines of `length keyword=value`; the length includes itself and the line break."""
    records, start, end = {}, 0, len(content.rstrip(b"\0"))
    while start < end:
        length = RECORD_LENGTH.match(content, start)
        if length is None or not len(length[0]) < int(length[1]) <= len(content) - start:
            raise ReadError("is broken: an extended header has an impossible length")
        stop = start + int(length[1])
        keyword, _, value = content[length.end() : stop - 1].partition(b"=")
        records[keyword] = value
        start = stop
    return records


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
