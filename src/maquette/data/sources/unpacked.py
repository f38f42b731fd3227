"""How much a Parquet file unpacks to, before it is: a few kilobytes may stand for terabytes.

Pages say how large they are (`pages`); the footer may say anything. But values may also be held once, in a dictionary,
and every row its number there, or by what each has in common with the one before; such a column is read once, a few
rows at a time, until it is too large.
"""

from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from maquette.data.sources.pages import DATA, DATA_2, DICTIONARY, PREFIXES, pages
from maquette.errors import MaquetteError
from maquette.foundation.reading.files import open_regular

MOST = 2**31  # bytes that a file and each of its row groups may unpack to in any case
RATIO = 100  # or so many times what it takes packed; texts shrink by a tenth of that, encoded images hardly
AT_ONCE = 2**27  # bytes of rows that are counted together
PLACE = 8  # bytes of each row beside its value: where that ends, and whether there is one
BY_NUMBER = (2, 8)  # encodings of pages whose values are numbers in the dictionary


def check_unpacked(file: Path, needed: Sequence[str]) -> None:
    """Check what some columns of a Parquet file unpack to.

    Raises `MaquetteError` for more than `MOST` bytes that are also more than `RATIO` times its own size, and
    `ValueError` for what is no page.
    """
    from pyarrow import parquet

    size, total = file.stat().st_size, 0
    most = max(MOST, RATIO * size)
    with open_regular(file) as stream, open_regular(file) as heads, parquet.ParquetFile(stream) as table:
        names = [table.schema.column(number).path for number in range(len(table.schema))]
        for number in range(table.num_row_groups):
            group = table.metadata.row_group(number)
            for place, name in enumerate(names):
                if name.split(".", 1)[0] not in needed:
                    continue
                stated = _stated(heads, group.column(place), size)
                is_counted = stated.bytes <= most and stated.worst > most
                total += _counted(table, number, name, stated.largest, most) if is_counted else stated.bytes
                if total > most:
                    raise MaquetteError(
                        f"{str(file)!r} takes {size:,} bytes and unpacks to over {most / 2**30:.1f} GiB; it is "
                        "broken, or made to fill the disk."
                    )


class _Stated(NamedTuple):
    """What the heads of a column's pages say, in bytes."""

    bytes: int  # of the pages
    worst: int  # that their values may take
    largest: int  # that one value may take


def _stated(heads: BufferedReader, column: Any, size: int) -> _Stated:
    """Add up the pages of a column of a row group. Raises `ValueError` for what is no page."""
    total = worst = largest = dictionary = 0
    for page in pages(heads, column, size):
        total += page.unpacked
        if page.kind == DICTIONARY:
            dictionary = max(dictionary, page.unpacked)
        elif page.kind in (DATA, DATA_2):
            total += page.values * PLACE
            value = page.unpacked if page.encoding == PREFIXES else dictionary if page.encoding in BY_NUMBER else 0
            worst, largest = worst + page.values * value, max(largest, value)
    return _Stated(total, total + worst, largest)


def _counted(table: Any, group: int, name: str, largest: int, most: int) -> int:
    """Bytes in memory of a column of a row group; no further than `most`.

    Args:
        largest: bytes of a value, at most.
    """
    total = 0
    for batch in table.iter_batches(max(1, min(4096, AT_ONCE // max(1, largest))), row_groups=[group], columns=[name]):
        total += batch.nbytes
        if total > most:
            break
    return total
