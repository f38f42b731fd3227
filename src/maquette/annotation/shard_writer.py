"""Write pairs as `data.sources.shards` and `data.sources.parquet` read them, in reproducible bytes."""

import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from maquette.data.sources.parquet import DEFAULT_NAMES
from maquette.errors import MaquetteError

GROUP = 100  # rows in a row group of a Parquet file


@dataclass(frozen=True)
class Pair:
    number: int  # of the row in its source
    image: bytes  # encoded
    ending: str  # jpg, png or webp, as the image is encoded
    condition: bytes  # PNG
    text: str

    @property
    def key(self) -> str:
        return f"{self.number:09d}"


def png(image: Image.Image) -> bytes:
    """Encode an RGB or grey map losslessly, at one bit per pixel for black and white and eight for greys.

    OpenCV's default settings (run-length encoding) take a seventh of Pillow's time.
    """
    grey, *others = (np.asarray(channel) for channel in image.split())
    if not all(np.array_equal(grey, channel) for channel in others):
        green, blue = others
        return _encoded(cv2.merge([blue, green, grey]))
    is_black_or_white = not (grey + np.uint8(1) > 1).any()  # 255 + 1 is 0 in a byte
    return _encoded(grey, [cv2.IMWRITE_PNG_BILEVEL, 1] if is_black_or_white else [])


def _encoded(pixels: np.ndarray, settings: list[int] | None = None) -> bytes:
    return cv2.imencode(".png", pixels, settings or [])[1].tobytes()


def write_tar(path: Path, pairs: Iterable[Pair]) -> None:
    """Write a shard in WebDataset's format: `000000007.jpg`, `000000007.condition.png`, `000000007.txt`."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for pair in pairs:
            _add(archive, f"{pair.key}.{pair.ending}", pair.image)
            _add(archive, f"{pair.key}.condition.png", pair.condition)
            _add(archive, f"{pair.key}.txt", pair.text.encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # without time and owner
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_parquet(path: Path, pairs: Iterable[Pair]) -> None:
    """Write a table whose images have `datasets`' Image type: encoded bytes, and a name with the format's extension."""
    pyarrow, parquet = _pyarrow()
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    types = {DEFAULT_NAMES.image: "Image", DEFAULT_NAMES.condition: "Image", DEFAULT_NAMES.text: "Value"}
    features = {
        name: {"_type": type_} | ({"dtype": "string"} if type_ == "Value" else {}) for name, type_ in types.items()
    }
    schema = pyarrow.schema(
        [(name, image if type_ == "Image" else pyarrow.string()) for name, type_ in types.items()],
        {"huggingface": json.dumps({"info": {"features": features}})},
    )
    pairs = iter(pairs)
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(pairs, GROUP)):
            rows = [_cells(pair) for pair in group]
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MaquetteError("Parquet files are written with pyarrow: pip install 'maquette[data]'.") from error
    return pyarrow, parquet


def _cells(pair: Pair) -> dict[str | None, object]:
    return {
        DEFAULT_NAMES.image: {"bytes": pair.image, "path": f"{pair.key}.{pair.ending}"},
        DEFAULT_NAMES.condition: {"bytes": pair.condition, "path": f"{pair.key}.condition.png"},
        DEFAULT_NAMES.text: pair.text,
    }
