"""The largest images of a source, as the paper takes its smaller sets (v1 §3.5)."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tqdm import tqdm

from maquette.data.prefetch import in_order
from maquette.data.sources.jsonl import BadRow, RowError, Source, size_of
from maquette.errors import MaquetteError

AHEAD = 64  # headers a thread


def largest(source: Source, count: int, smallest: int) -> tuple[list[int], list[BadRow]]:
    """The rows of the `count` images of the most pixels, in the source's order, and the rows that have no size.

    Of equally large ones the first count. Read from the headers, several at a time.

    Args:
        smallest: pixels a side that an image has at least.
    """
    threads = os.cpu_count() or 1
    sizes: dict[int, tuple[int, int]] = {}
    faults: list[BadRow] = []
    with ThreadPoolExecutor(threads) as pool:
        found = in_order(pool, partial(_size, source), range(len(source)), AHEAD * threads)
        for row, size in enumerate(tqdm(found, "sizes", len(source))):
            if isinstance(size, BadRow):
                faults.append(size)
            elif min(size) >= smallest:
                sizes[row] = size
    ranked = sorted(sizes, key=lambda row: (-sizes[row][0] * sizes[row][1], row))
    return sorted(ranked[:count]), faults


def _size(source: Source, row: int) -> tuple[int, int] | BadRow:
    where = f"row {row}"
    try:
        found = source[row]
        where = found.where
        return size_of(found.image)
    except RowError as error:
        return BadRow(where, error.fault.reason, row)
    except MaquetteError as error:
        return BadRow(where, str(error), row)
