"""The pages of a column of a Parquet file, by their own heads: what the file's footer says of them may be made up.

A head is a structure in Thrift's compact form; it stands before its page, and reading a page takes what its head says.
"""

from collections.abc import Iterator
from io import BufferedReader
from typing import Any, NamedTuple

DICTIONARY, DATA, DATA_2 = 2, 0, 3  # kinds of pages
PLAIN, PREFIXES = 0, 7  # encodings: values as they are; each by what it has in common with the one before
MOST = 2**18  # pages of a column in a row group: more than anything writes
LONGEST = 2**24  # bytes of a head, most of them the least and the largest value, which are passed over
STEPS = 10_000  # bytes of a head without these
PADDING = 100  # bytes by which old writers stated a column too short
DEPTH = 8  # structures within each other


class Page(NamedTuple):
    """What a page's head says."""

    kind: int
    unpacked: int  # bytes
    values: int  # of a dictionary, or of rows, also of those without a value
    encoding: int


def pages(stream: BufferedReader, column: Any, size: int) -> Iterator[Page]:
    """The pages that reading a column of a row group goes through.

    Args:
        column: pyarrow's metadata of it.
        size: bytes of the file.

    Raises `ValueError` for what is no page.
    """
    place, seen = column.data_page_offset, 0
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < place:
        place = column.dictionary_page_offset
    end = min(size, place + column.total_compressed_size + PADDING)
    for _ in range(MOST):
        if place < 0 or place >= end or seen >= column.num_values:
            return
        head = _Head(stream, place)
        page, packed = _page(head.structure())
        yield page
        seen += page.values if page.kind in (DATA, DATA_2) else 0
        place = head.place + packed
    raise ValueError(f"a column has over {MOST:,} pages")


def _page(values: dict[int, Any]) -> tuple[Page, int]:
    """A page and its bytes as they are in the file."""
    kind, unpacked, packed = (_whole(values, field) for field in (1, 2, 3))
    own = values.get({DATA: 5, DICTIONARY: 7, DATA_2: 8}.get(kind, 0))
    if not isinstance(own, dict):  # of another kind, which is passed over
        return Page(kind, max(unpacked, packed), 0, PLAIN), packed
    count, encoding = _whole(own, 1), _whole(own, 4 if kind == DATA_2 else 2)
    if not count and kind != DICTIONARY:
        raise ValueError("a page is empty")
    return Page(kind, max(unpacked, packed), count, encoding), packed


def _whole(values: dict[int, Any], field: int) -> int:
    value = values.get(field)
    if not isinstance(value, int) or not 0 <= value < 2**31:
        raise ValueError("a page has no valid head")
    return value


class _Head:
    """Reads a head from its first byte on; afterwards `place` is that behind it."""

    def __init__(self, stream: BufferedReader, place: int) -> None:
        self.place, self._stream = place, stream
        self._last, self._steps = place + LONGEST, STEPS
        stream.seek(place)

    def structure(self, depth: int = 0) -> dict[int, Any]:
        """Whole numbers and structures by the number of their field. Raises `ValueError` for what is none."""
        found: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._signed()
            found[field] = self._value(head & 15, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):  # true and false are said by the kind
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind in (7, 8):  # eight bytes, or as many as are said
            return self._pass(8 if kind == 7 else self._number())
        if kind in (9, 10) and depth < DEPTH:
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._number()
            for _ in range(min(count, STEPS)):
                self._value(head & 15 if head & 15 > 2 else 3, depth + 1)
            return None
        if kind == 12 and depth < DEPTH:
            return self.structure(depth + 1)
        raise ValueError("a page has no valid head")

    def _byte(self) -> int:
        found = self._stream.read(1)
        self._steps -= 1
        if not found or self._steps < 0:
            raise ValueError("the head of a page does not end")
        self.place += 1
        return found[0]

    def _number(self) -> int:
        value = shift = 0
        while (byte := self._byte()) > 127 and shift < 63:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def _signed(self) -> int:
        value = self._number()
        return (value >> 1) ^ -(value & 1)

    def _pass(self, count: int) -> None:
        self.place += count
        if self.place > self._last:
            raise ValueError("the head of a page does not end")
        self._stream.seek(self.place)
