"""A generated picture carries in its PNG all that is needed to make it again, bit for bit."""

import base64
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from maquette.errors import MaquetteError
from maquette.foundation.files import written_whole

KEY = "maquette"


@dataclass(frozen=True)
class ControlRecord:
    controlnet: str  # name or folder
    map: str  # the condition map, a PNG in base64
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0

    @staticmethod
    def pack(picture: Image.Image) -> str:
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        return base64.b64encode(stream.getvalue()).decode()

    def picture(self) -> Image.Image:
        return Image.open(io.BytesIO(base64.b64decode(self.map))).convert("RGB")


@dataclass(frozen=True)
class Record:
    """The arguments of one generation, and which of its pictures this is."""

    base: str
    prompt: str
    dtype: str
    settings: dict[str, Any]  # keyword arguments of `generate`
    controls: list[ControlRecord] = field(default_factory=list)
    number: int = 0
    device: str = "cpu"  # the kind of device it was made on, which decides the last bits

    def save(self, picture: Image.Image, path: Path) -> None:
        """Write a picture with its record, whole or not at all."""
        info = PngImagePlugin.PngInfo()
        info.add_text(KEY, json.dumps(asdict(self)))
        with written_whole(path) as temporary:
            picture.save(temporary, "PNG", pnginfo=info)

    @staticmethod
    def load(path: Path) -> "Record":
        """Read the record of a picture that `save` wrote."""
        try:
            with Image.open(path) as picture:
                values = json.loads(picture.info[KEY])
            controls = [ControlRecord(**control) for control in values["controls"]]
            for control in controls:
                control.picture()
            record = Record(**{**values, "controls": controls})
            if not 0 <= record.number < record.settings["count"] or len(record.settings["size"]) != 2:
                raise ValueError("it names a picture that its settings do not make")
        except FileNotFoundError as error:
            raise MaquetteError(f"There is no picture at {str(path)!r}.") from error
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise MaquetteError(
                f"{str(path)!r} does not say how it was made; give a PNG that `maquette generate` wrote."
            ) from error
        return record
