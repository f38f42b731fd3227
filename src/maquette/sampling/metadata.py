"""Reproducible images: an image carries the record of all that reproduces it, and so does the file it is saved as.

A PNG holds the record; beside a JPEG or WebP it is a JSON file, since those formats have no room for condition maps.
This module does not import torch.
"""

import base64
import hashlib
import io
import json
import re
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from maquette.controlnet.choices import Balance, Branch
from maquette.errors import MaquetteError
from maquette.formats.lora_file import LoraFile
from maquette.foundation.files import atomic_write, text_hash
from maquette.foundation.images import read_image
from maquette.foundation.reading.files import read_text
from maquette.foundation.reading.pictures import opened_picture
from maquette.sampling.rules import ADVICE, read_record

KEY = "maquette"  # in the metadata of a PNG, and in `image.info`

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""The formats that images are written in, by the ending of the file."""
LONGEST = 2**28  # bytes of a record in a file of its own, which holds condition maps
QUALITY = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95, "method": 6}}


def pack(image: Image.Image) -> str:
    """An image as a PNG in base64."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def unpack(text: str) -> Image.Image:
    """The image that `pack` packed. Raises `ValueError` for any other text."""
    with opened_picture(io.BytesIO(base64.b64decode(text)), "a packed image") as image:
        image.load()
        return image.copy()


def image_hash(image: Image.Image) -> str:
    """SHA-256 of an image's size, mode and pixels."""
    return hashlib.sha256(f"{image.size} {image.mode}".encode() + image.tobytes()).hexdigest()


@dataclass(frozen=True)
class ControlRecord:
    """A control as an image's record keeps it. A hash is None in the records of versions up to 0.2."""

    controlnet: str  # name, file or folder
    map: str  # the condition map, packed
    weight: float | list[float] = 1.0
    start: float = 0.0
    end: float = 1.0
    mask: str | None = None  # packed
    balance: Balance = "balanced"
    curve: list[list[float]] | None = None  # points (fraction of the steps, factor)
    branch: Branch | None = None
    hash: str | None = None  # of the ControlNet's weights
    map_hash: str | None = None  # of the map's pixels
    type: str | None = None  # of a union: the kind of the condition
    paint: str | None = None  # packed: white where a picture is to be painted in
    picture: str | None = None  # packed: that picture, if the map is followed meanwhile; None: the map is it

    def to_paint(self) -> Image.Image | None:
        """Where a picture is to be painted in, if the condition is one. Raises `ValueError` for no packed image."""
        return None if self.paint is None else unpack(self.paint).convert("L")

    def image(self) -> Image.Image:
        """The condition map, RGB. Raises `ValueError` if its pixels are not those that were recorded."""
        image = unpack(self.map).convert("RGB")
        if self.map_hash not in (None, image_hash(image)):
            raise ValueError("its condition map was changed")
        return image


@dataclass(frozen=True)
class Record:
    """How one image was generated: the arguments, and hashes of the weights that took part."""

    base: str
    prompt: str
    dtype: str
    settings: dict[str, Any]  # keyword arguments of `generate`: numbers and texts
    controls: list[ControlRecord] = field(default_factory=list)
    number: int = 0  # of the image in its generation; 0 since version 0.3, where `settings` are those of one image
    device: str = "cpu"  # type of the device it was generated on, which affects the last bits
    base_hash: str | None = None
    image: str | None = None  # the start image, packed
    mask: str | None = None  # where it may change, packed
    prediction: str | None = None  # what `load_base` was told of a base that does not say it
    loras: list[LoraFile] = field(default_factory=list)  # added to the base, which `base_hash` leaves out
    versions: dict[str, str] = field(default_factory=dict)  # of the packages that compute; empty up to version 0.2
    unrecorded: list[str] = field(default_factory=list)  # what took part and cannot be stored, such as a function
    pixels: str | None = None  # hash of the generated image
    tiny_decoder: str | None = None  # folder of the tiny decoder, if it is not the base's own
    decoder_hash: str | None = None  # of its weights, where it made the image

    def alone(self) -> "Record":
        """The record of this image by itself: image i of several starts from the noise of seed + i."""
        seed = self.settings["seed"] + self.number
        return replace(self, settings={**self.settings, "seed": seed, "count": 1}, number=0)

    def with_controls(self, **changes: Any) -> "Record":
        """With a change to every control."""
        return replace(self, controls=[replace(control, **changes) for control in self.controls])

    def to_json(self) -> str:
        """As text; what is None or empty is left out."""
        values = asdict(self)
        values["controls"] = [_filled(control) for control in values["controls"]]
        return json.dumps(_filled(values))

    @staticmethod
    def from_json(text: str, source: str = "this image") -> "Record":
        """Read what `to_json` wrote, in this version or an earlier one; `source` is used in messages.

        Raises `MaquetteError` for anything else.
        """
        names = {"record": {one.name for one in fields(Record)}, "control": {one.name for one in fields(ControlRecord)}}
        values = read_record(text, source, names)
        controls = [ControlRecord(**control) for control in values.get("controls", [])]
        loras = [LoraFile(**lora) for lora in values.get("loras", [])]
        record = Record(**{**values, "controls": controls, "loras": loras})
        if record.number >= record.settings["count"]:
            raise MaquetteError(f"The record of {source!r} names an image that its settings do not make; {ADVICE}.")
        try:
            for control in controls:
                control.image()
                control.to_paint()
        except ValueError as error:
            raise MaquetteError(f"The record of {source!r} is damaged ({error}); {ADVICE}.") from error
        return record.alone()

    @staticmethod
    def load(path: Path) -> "Record":
        """Read the record of an image file, from a PNG or from the JSON file beside any other.

        Raises `MaquetteError` for a missing file, or an image without a valid record.
        """
        if not path.exists():
            raise MaquetteError(f"There is no image at {str(path)!r}.")
        beside = _beside(path)
        try:
            if beside.is_file() and path.suffix.lower() != ".png":
                return Record.from_json(_unsealed(read_text(beside, LONGEST)), str(path))
            with opened_picture(path, str(path)) as image:
                text = image.info.get(KEY)
            if text is None and beside.is_file():
                return Record.from_json(_unsealed(read_text(beside, LONGEST)), str(path))
            if not isinstance(text, str):
                raise ValueError("it holds no record")
            return Record.from_json(text, str(path))
        except (OSError, ValueError) as error:
            raise MaquetteError(
                f"{str(path)!r} does not say how it was made; give a PNG that `maquette generate` or `mq.save` wrote, "
                f"or a JPEG or WebP with its {beside.name} beside it. What is wrong: {str(error).rstrip('.')}."
            ) from error


def record_of(image: Image.Image) -> Record | None:
    """The record that an image carries in `image.info`, from `generate` or from its PNG; None without one.

    Raises `MaquetteError` for one that is damaged.
    """
    text = image.info.get(KEY)
    return Record.from_json(text) if isinstance(text, str) else None


def save(image: Image.Image, path: str | Path) -> None:
    """Write a generated image with its record, atomically: `maquette generate --again` makes it again.

    A PNG holds the record; if that is too long to be read back from one, it is kept beside it as out.png.json. JPEG and
    WebP are written with a quality of 95, and the record as a JSON file beside them: out.jpg and out.jpg.json.

    Args:
        image: as `generate` returned it.
        path: a file that ends in .png, .jpg, .jpeg or .webp; an existing one is replaced.

    Raises `MaquetteError` for another ending, and for an image that carries no record or was changed since.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise MaquetteError(f"Images are written as {', '.join(FORMATS)}; {str(path)!r} is none of them.")
    record = record_of(image)
    if record is None:
        raise MaquetteError("This image carries no record of how it was generated; save it with image.save(path).")
    if record.pixels not in (None, image_hash(image)):
        raise MaquetteError(
            "This image was changed after it was generated, so its record would not make it again; save it with "
            "image.save(path)."
        )
    _write(image, record.to_json(), path)


def _write(image: Image.Image, text: str, path: Path) -> None:
    kind = FORMATS[path.suffix.lower()]
    with atomic_write(path) as temporary:
        if kind == "PNG":
            information = PngImagePlugin.PngInfo()
            information.add_text(KEY, text)
            image.save(temporary, kind, pnginfo=information)
            if _is_held(temporary, image, text):
                return
        image.save(temporary, kind, **QUALITY.get(kind, {}))
        with atomic_write(_beside(path)) as beside:  # before the image: there is none without its record
            beside.write_text(_sealed(text), "utf-8")


def _is_held(path: Path, image: Image.Image, text: str) -> bool:
    """Whether a PNG is read back with its record, as which Pillow takes no text of more than 64 MiB.

    Raises `OSError` if its pixels are others.
    """
    try:
        found = read_image(path, str(path), Image.Image.copy)
    except MaquetteError:
        return False
    if image_hash(found) != image_hash(image):
        raise OSError(f"{str(path)!r} was not stored as it was written")
    return bool(found.info.get(KEY) == text)


def _sealed(text: str) -> str:
    """The JSON of a record with a checksum as its last value."""
    return f'{text[:-1]}, "check": "{text_hash(text)}"}}'


def _unsealed(text: str) -> str:
    """The JSON of a record without its checksum, which those of versions up to 0.2 lack.

    Raises `ValueError` if that does not match.
    """
    sealed = re.fullmatch(r'(.*), "check": "(.*)"\}', text, re.DOTALL)
    if sealed is None:
        return text
    if text_hash(sealed[1] + "}") != sealed[2]:
        raise ValueError("its checksum does not match")
    return sealed[1] + "}"


def files_of(path: Path) -> list[Path]:
    """The files that `save` writes for an image: that beside a PNG only if its record is very long."""
    return [path, _beside(path)]


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, [], {})}
