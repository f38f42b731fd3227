"""NumPy's files of arrays. Does not import torch."""

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from maquette.foundation.reading.files import open_regular


def read_array(path: Path, most: int) -> NDArray[Any]:
    """The array (any shape) in a .npy file, of at most `most` bytes; objects, which could run code, are refused.

    Raises `OSError` or `ValueError` for a file that cannot be read, and where its header states more than it holds.
    """
    with open_regular(path) as file:
        shape, dtype = _header(file)
        size = math.prod(shape) * dtype.itemsize
        if size > most or min(shape, default=0) < 0:
            raise ValueError(f"it states an array {shape} of {dtype}; {most:,} bytes are the most")
        file.seek(0, 2)
        if size > file.tell():
            raise ValueError("it is cut off")
        file.seek(0)
        return np.asarray(np.load(file, allow_pickle=False))


def _header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and type that a file states. Raises `ValueError` for a header that is broken."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except Exception as error:  # it is parsed as Python's, whose parser has errors of its own
        raise ValueError(f"it has no header of an array ({error})") from error
    return shape, dtype
