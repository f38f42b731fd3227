"""DIODE (Vasiljevic et al. 2019, arXiv 1908.00463): photographs with measured depth and normals, in its own folders.

| file | contents |
| --- | --- |
| NAME.png | the photograph |
| NAME_depth.npy, NAME_depth_mask.npy | depth (H, W, 1) in metres; 1 where it was measured, else 0 |
| NAME_normal.npy | normals (H, W, 3), axes right, up, backward; (0, 0, 0) where there are none |
| NAME.txt | a text, which DIODE itself does not have |

Maps are drawn as the detectors `depth` and `normal` draw theirs, with their default options.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.detectors.depth import DepthOptions
from maquette.conditions.drawing.surfaces import disparity_map, normal_map
from maquette.data.sources.folder import LONGEST, images_in
from maquette.data.sources.jsonl import BadRow, Columns, File, Names, Row, RowError
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.reading.arrays import read_array
from maquette.foundation.reading.files import read_text
from maquette.foundation.reading.pictures import MOST_BYTES
from maquette.foundation.registry import unknown

CAMERA = np.array([886.81, 927.06, 512, 384])  # fx, fy, cx, cy in pixels, from the devkit's intrinsics.txt
FRAME = np.array([1024, 768])  # width and height in pixels that these are for


def depth_drawn(image: Path) -> Image.Image:
    """Relative inverse depth of an image's file, near is bright; black where nothing was measured, as is the sky.

    Raises `OSError` or `ValueError` for measurements that cannot be read.
    """
    depth = _loaded(image, "_depth.npy", 1)[..., 0]
    measured = (_loaded(image, "_depth_mask.npy", 1)[..., 0] > 0) & np.isfinite(depth) & (depth > 0)
    disparity = 1 / np.maximum(np.where(measured, depth, np.inf), 1e-3)
    return disparity_map(disparity, DepthOptions().clip, measured)


def normals_drawn(image: Path) -> Image.Image:
    """Normals of an image's file in the published colours; they face the viewer where there are none, as backgrounds.

    Raises `OSError` or `ValueError` for measurements that cannot be read.
    """
    normals = np.nan_to_num(_loaded(image, "_normal.npy", 3)).astype(np.float32)
    lengths = np.linalg.norm(normals, axis=2, keepdims=True)
    facing = normals * np.where((normals * _rays(normals.shape[:2])).sum(axis=2, keepdims=True) > 0, -1, 1)
    published = facing / np.maximum(lengths, 1e-6) * np.array([-1, 1, 1], np.float32)  # red is left
    return normal_map(np.where(lengths > 0, published, np.array([0, 0, 1], np.float32)))


def _rays(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Directions from the camera through each pixel, (H, W, 3); measured normals have either sign, surfaces face it."""
    rows, columns = np.indices(shape)
    fx, fy, cx, cy = CAMERA * np.tile(np.array(shape[::-1]) / FRAME, 2)
    return np.stack([(columns - cx) / fx, (cy - rows) / fy, -np.ones(shape)], axis=2).astype(np.float32)


def _loaded(image: Path, ending: str, channels: int) -> NDArray[Any]:
    """An array (H, W, channels) beside an image; a single channel may have no axis."""
    path = image.with_name(image.stem + ending)
    values = read_array(path, MOST_BYTES)
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[2] != channels:
        raise ValueError(f"{path.name} holds {values.shape}, not (H, W, {channels})")
    return np.asarray(values)


ENDINGS = {"depth": "_depth.npy", "normal": "_normal.npy"}
DRAWN: dict[str, Callable[[Path], Image.Image]] = {"depth": depth_drawn, "normal": normals_drawn}


@dataclass(frozen=True)
class Measured:
    """The map of an image, drawn each time it is read."""

    image: Path
    kind: str  # a key of DRAWN

    @property
    def name(self) -> str:
        return str(self.image.with_name(self.image.stem + ENDINGS[self.kind]))

    def mark(self) -> None:
        """Only its bytes tell when it changes."""

    def read(self) -> bytes:
        """The map as a PNG. Raises `OSError` if the measurements cannot be read."""
        content = io.BytesIO()
        try:
            DRAWN[self.kind](self.image).save(content, "PNG", compress_level=1)
        except (ValueError, EOFError) as error:
            raise OSError(f"is broken: {error}") from error
        return content.getvalue()


class Diode:
    """The photographs of a folder of DIODE, with its subfolders, and their depth or normals.

    Args:
        columns: the condition is "depth" or "normal", by default whichever there is; the text is the ending of files
            with texts, by default "txt". Texts without a file are empty, with a warning.

    Raises `MaquetteError` if there are both or none of the two and none is chosen, or no photograph has the chosen one.
    """

    def __init__(self, folder: Path, columns: Columns) -> None:
        if columns.image:
            raise MaquetteError(f"The images of {str(folder)!r} are its PNG files; leave the column {columns.image!r}.")
        names = {path.relative_to(folder) for path in folder.rglob("*")}
        self.names = columns.names(Names("png", _found(names, folder) if columns.has_conditions else None, "txt"))
        if columns.has_conditions and self.names.condition is None:
            raise MaquetteError(f"{str(folder)!r} holds depth and normals; name one as the condition's column.")
        if self.names.condition not in (None, *DRAWN):
            raise MaquetteError(unknown("condition of DIODE", self.names.condition, list(DRAWN)))
        images = [path for path in images_in(folder) if path.suffix.lower() == ".png"]
        ending = ENDINGS[self.names.condition] if self.names.condition else ".png"
        has_map = [path.relative_to(folder).with_name(path.stem + ending) in names for path in images]
        self._images = [path for path, has in zip(images, has_map, strict=True) if has]
        self.faults: Sequence[BadRow] = [
            BadRow(str(path), f"has no {path.stem}{ending} beside it")
            for path, has in zip(images, has_map, strict=True)
            if not has
        ]
        if not self._images:
            raise MaquetteError(f"No photograph in {str(folder)!r} has a file NAME{ending} beside it.")
        self._warn_of_texts(names, folder)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> Row:
        path = self._images[number]
        condition = Measured(path, self.names.condition) if self.names.condition else None
        return Row(str(path), File(path), condition, self._text(path))

    def _text(self, image: Path) -> str:
        path = image.with_suffix(f".{self.names.text}")
        try:
            return read_text(path, LONGEST) if self.names.text and path.is_file() else ""
        except (OSError, ValueError) as error:
            raise RowError(str(path), f"is not UTF-8 text ({error})") from error

    def _warn_of_texts(self, names: set[Path], folder: Path) -> None:
        if self.names.text is None:
            return
        written = [path.relative_to(folder).with_suffix(f".{self.names.text}") in names for path in self._images]
        if not all(written):
            warnings.warn(
                f"{written.count(False)} of the {len(written)} photographs in {str(folder)!r} have no file "
                f"NAME.{self.names.text}, so their texts are empty; write such files beside them.",
                MaquetteWarning,
                stacklevel=2,
            )


def is_diode(folder: Path) -> bool:
    """Whether a folder or a subfolder holds measurements named as in DIODE."""
    return any(next(folder.rglob(f"*{ending}"), None) for ending in ENDINGS.values())


def _found(names: set[Path], folder: Path) -> str | None:
    """The kind of measurements in a folder if there is only one; None if the user has to choose."""
    kinds = [kind for kind, ending in ENDINGS.items() if any(path.name.endswith(ending) for path in names)]
    return kinds[0] if len(kinds) == 1 else None
