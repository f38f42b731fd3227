"""Reproducible images: the PNG of a generated image carries all that reproduces it bit for bit."""

import base64
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from maquette.errors import MaquetteError
from maquette.foundation.files import atomic_write

KEY = "maquette"


@dataclass(frozen=True)
class ControlRecord:
    """A control as an image's metadata keeps it."""

    controlnet: str  # name or folder
    map: str  # the condition map, a PNG in base64
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0

    @staticmethod
    def pack(image: Image.Image) -> str:
        """A condition map as a base64 PNG, for `map`."""
        stream = io.BytesIO()
        image.save(stream, "PNG")
        return base64.b64encode(stream.getvalue()).decode()

    def image(self) -> Image.Image:
        """The condition map, RGB."""
        return Image.open(io.BytesIO(base64.b64decode(self.map))).convert("RGB")


@dataclass(frozen=True)
class Record:
    """The arguments of one generation, and which of its images this is."""

    base: str
    prompt: str
    dtype: str
    settings: dict[str, Any]  # keyword arguments of `generate`
    controls: list[ControlRecord] = field(default_factory=list)
    number: int = 0
    device: str = "cpu"  # type of the device it was generated on, which affects the last bits

    def save(self, image: Image.Image, path: Path) -> None:
        """Write an image with its record, atomically."""
        info = PngImagePlugin.PngInfo()
        info.add_text(KEY, json.dumps(asdict(self)))
        with atomic_write(path) as temporary:
            image.save(temporary, "PNG", pnginfo=info)

    @staticmethod
    def load(path: Path) -> "Record":
        """Read the record of an image that `save` wrote.

        Raises `MaquetteError` for a missing file, or an image without a valid record.
        """
        try:
            with Image.open(path) as image:
                values = json.loads(image.info[KEY])
            controls = [ControlRecord(**control) for control in values["controls"]]
            for control in controls:
                control.image()
            record = Record(**{**values, "controls": controls})
            if not 0 <= record.number < record.settings["count"] or len(record.settings["size"]) != 2:
                raise ValueError("it names an image that its settings do not make")
        except FileNotFoundError as error:
            raise MaquetteError(f"There is no image at {str(path)!r}.") from error
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise MaquetteError(
                f"{str(path)!r} does not say how it was made; give a PNG that `maquette generate` wrote."
            ) from error
        return record
