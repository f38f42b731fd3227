"""The largest pictures of a source, as the paper takes its smaller sets (v1 §3.5)."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tqdm import tqdm

from maquette.data.annotating.ahead import in_order
from maquette.data.rows import Fault, RowError, Source, size_of
from maquette.errors import MaquetteError

AHEAD = 64  # headers a thread


def largest(source: Source, count: int, smallest: int) -> tuple[list[int], list[Fault]]:
    """The rows of the `count` pictures of the most pixels, in the source's order, and the rows that have no size.

    Of equally large ones the first count. Read from the headers, several at a time.

    Args:
        smallest: pixels a side that a picture has at least.
    """
    threads = os.cpu_count() or 1
    sizes: dict[int, tuple[int, int]] = {}
    faults: list[Fault] = []
    with ThreadPoolExecutor(threads) as pool:
        found = in_order(pool, partial(_size, source), range(len(source)), AHEAD * threads)
        for row, size in enumerate(tqdm(found, "sizes", len(source))):
            if isinstance(size, Fault):
                faults.append(size)
            elif min(size) >= smallest:
                sizes[row] = size
    ranked = sorted(sizes, key=lambda row: (-sizes[row][0] * sizes[row][1], row))
    return sorted(ranked[:count]), faults


def _size(source: Source, row: int) -> tuple[int, int] | Fault:
    where = f"row {row}"
    try:
        found = source[row]
        where = found.where
        return size_of(found.picture)
    except RowError as error:
        return Fault(where, error.fault.reason, row)
    except MaquetteError as error:
        return Fault(where, str(error), row)
