"""The largest images of a source, as the paper chooses its smaller data sets (v1 §3.5)."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tqdm import tqdm

from maquette.data.prefetch import in_order
from maquette.data.sources.jsonl import BadRow, RowError, Source, size_of
from maquette.errors import MaquetteError

AHEAD = 64  # headers queued per thread


def largest(source: Source, count: int, smallest: int) -> tuple[list[int], list[BadRow]]:
    """The rows of the `count` images with the most pixels, in the source's order, and the unreadable rows.

    Among equally large images the first are taken. Sizes are read from the headers, several at a time.

    Args:
        smallest: the least number of pixels per side.
    """
    threads = os.cpu_count() or 1
    sizes: dict[int, tuple[int, int]] = {}
    faults: list[BadRow] = []
    with ThreadPoolExecutor(threads) as pool:
        results = in_order(pool, partial(_size, source), range(len(source)), AHEAD * threads)
        for row, size in enumerate(tqdm(results, "sizes", len(source))):
            if isinstance(size, BadRow):
                faults.append(size)
            elif min(size) >= smallest:
                sizes[row] = size
    ranked = sorted(sizes, key=lambda row: (-sizes[row][0] * sizes[row][1], row))
    return sorted(ranked[:count]), faults


def _size(source: Source, row: int) -> tuple[int, int] | BadRow:
    where = f"row {row}"
    try:
        opened = source[row]
        where = opened.where
        return size_of(opened.image)
    except RowError as error:
        return BadRow(where, error.fault.reason, row)
    except MaquetteError as error:
        return BadRow(where, str(error), row)
