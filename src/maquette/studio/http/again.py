"""From a picture's record to the request that makes it again. This module does not import torch."""

import io
from collections.abc import Iterator, Mapping
from typing import Any

from maquette.errors import MaquetteError
from maquette.foundation.reading.documents import parse_json
from maquette.foundation.reading.pictures import opened_picture
from maquette.sampling.metadata import KEY, ControlRecord, Record
from maquette.studio.pictures import Picture
from maquette.studio.requests.limits import Limits
from maquette.studio.requests.request import REQUEST


def read_record(content: bytes, limits: Limits) -> Record:
    """The record in a PNG. What it packs is measured by its headers before any of it is decoded.

    Raises `MaquetteError` for a file without a record, and for one that is damaged or too large.
    """
    picture = Picture.read(content, limits.picture_bytes, name="the picture")
    picture.size(limits.picture_pixels)
    with opened_picture(io.BytesIO(content), "the picture") as image:
        text = image.info.get(KEY)
    if not isinstance(text, str):
        raise MaquetteError("The picture holds no record; give a PNG as maquette wrote it.")
    try:
        packed = list(_packed(parse_json(text)))
    except ValueError as error:
        raise MaquetteError(f"The picture's record is not JSON ({error}); give the PNG as it was written.") from error
    for name, one in packed:
        Picture.read(one, limits.picture_bytes, name=name).size(limits.picture_pixels)
    return Record.from_json(text, "the picture")


def request_values(record: Record, offered: Mapping[str, str]) -> dict[str, Any]:
    """The plain values of the request that makes a recorded picture again, for `Request.read`.

    Args:
        offered: as for `Layer.net_name`.

    Raises `MaquetteError` for what no request can name: LoRAs, tiny decoders, and ControlNets that are not offered.
    """
    if record.loras:
        raise MaquetteError(
            "The picture was made with LoRAs, which requests cannot name; make it again with maquette generate --again."
        )
    if record.tiny_decoder:
        raise MaquetteError(
            f"The picture was decoded by {record.tiny_decoder!r}, which requests cannot name; make it again with "
            "maquette generate --again."
        )
    known = {name: value for name, value in record.settings.items() if name in REQUEST}
    values = {
        **known,
        "prompt": record.prompt,
        "base": record.base,
        "image": record.image,
        "mask": record.mask,
        "layers": [_layer(control, offered) for control in record.controls],
    }
    return {name: value for name, value in values.items() if value is not None}


def _layer(control: ControlRecord, offered: Mapping[str, str]) -> dict[str, Any]:
    if control.controlnet not in offered:
        raise MaquetteError(
            f"The picture was made with the ControlNet {control.controlnet!r}, which is not offered here: "
            f"{', '.join(offered)}."
        )
    if control.paint is not None:
        raise MaquetteError(
            "The picture was made by painting in another, which requests cannot ask for; make it again with maquette "
            "generate --again."
        )
    values = {
        "condition": offered[control.controlnet],
        "net": control.controlnet,
        "picture": control.map,
        "is_map": True,
        "weight": control.weight,
        "start": control.start,
        "end": control.end,
        "mask": control.mask,
        "balance": control.balance,
        "curve": control.curve,
        "branch": control.branch,
    }
    return {name: value for name, value in values.items() if value is not None}


def _packed(values: Any) -> Iterator[tuple[str, str]]:
    """What a record packs, with a name for messages, wherever it has the right type."""
    values = values if isinstance(values, dict) else {}
    controls = values.get("controls")
    listed = [control for control in controls if isinstance(control, dict)] if isinstance(controls, list) else []
    for table, names in (
        (values, ("image", "mask")),
        *((control, ("map", "mask", "paint", "picture")) for control in listed),
    ):
        for name in names:
            if isinstance(table.get(name), str):
                yield f"the record's {name}", table[name]
