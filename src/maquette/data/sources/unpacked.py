"""How much a Parquet file unpacks to, before it is: a few kilobytes may stand for terabytes.

Compressed pages say how large they are. But a column may also hold each value once, in a dictionary, and every row its
number there; then the rows are counted, a few at a time, until they are too many.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from maquette.errors import MaquetteError
from maquette.foundation.reading.files import open_regular

MOST = 2**31  # bytes that a file and each of its row groups may unpack to in any case
RATIO = 100  # or so many times what it takes packed; texts shrink by a tenth of that, encoded images hardly
SMALL = 2**24  # bytes of a file that is counted quickly
AT_ONCE = 2**26  # bytes of rows that are counted together
HEAD = 64  # bytes, more than the head of a dictionary has


def check_unpacked(file: Path, needed: Sequence[str]) -> None:
    """Check what some columns of a Parquet file unpack to.

    Raises `MaquetteError` for more than `MOST` bytes that are also more than `RATIO` times its own size.
    """
    from pyarrow import parquet

    with open_regular(file) as stream, parquet.ParquetFile(stream) as table:
        size = file.stat().st_size
        total = 0
        for number in range(table.num_row_groups):
            group = table.metadata.row_group(number)
            columns = [column for column in map(group.column, range(group.num_columns)) if _top(column) in needed]
            most = max(MOST, RATIO * sum(column.total_compressed_size for column in columns))
            stated = sum(column.total_uncompressed_size for column in columns)
            repeated = [_dictionary(file, column) for column in columns if column.has_dictionary_page]
            worst = stated + sum(group.num_rows * taken for taken, _ in repeated)
            varied = all(2 * values >= group.num_rows for _, values in repeated)
            if stated > most or worst <= most or (size > SMALL and varied):
                total += stated
            else:
                largest = max(taken for taken, _ in repeated)
                total += _counted(table, number, needed, max(1, min(4096, AT_ONCE // max(1, largest))), most)
            if total > max(MOST, RATIO * size) or stated > most:
                raise MaquetteError(
                    f"{str(file)!r} takes {size:,} bytes and unpacks to over {max(total, stated) / 2**30:.1f} GiB; it "
                    "is broken, or made to fill the disk."
                )


def _top(column: Any) -> str:
    return str(column.path_in_schema).split(".", 1)[0]


def _counted(table: Any, group: int, needed: Sequence[str], rows: int, most: int) -> int:
    """Bytes of a row group's columns in memory, of which `rows` rows are read at a time; no further than `most`."""
    total = 0
    for batch in table.iter_batches(rows, row_groups=[group], columns=list(needed)):
        total += batch.nbytes
        if total > most:
            break
    return total


def _dictionary(file: Path, column: Any) -> tuple[int, int]:
    """Bytes of a column's dictionary when unpacked, and the number of its values.

    Both stand in the head of its page, in Thrift's compact form: a byte for each field, then its number. A head that
    is none counts as the largest there can be.
    """
    with open_regular(file) as stream:
        stream.seek(column.dictionary_page_offset)
        numbers = [*itertools.islice(_numbers(stream.read(HEAD)), 4)]  # kind, unpacked and packed size, values
    return (numbers[1], numbers[3]) if len(numbers) == 4 else (2**31, 0)


def _numbers(head: bytes) -> Iterator[int]:
    """The whole numbers at the start of a structure, and of the one within it; checksums aside."""
    place, field = 0, 0
    while place < len(head):
        field, kind, place = field + (head[place] >> 4), head[place] & 15, place + 1
        if kind == 12:  # a structure
            field = 0
        elif kind == 5:  # 32 bits
            shift = value = 0
            while place < len(head):
                value |= (head[place] & 127) << shift
                shift, place = shift + 7, place + 1
                if head[place - 1] < 128:
                    break
            if field != 4:
                yield value >> 1
        else:
            return
