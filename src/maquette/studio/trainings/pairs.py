"""A data set is looked through before it is trained on, as `maquette data check` does."""

from collections.abc import Mapping
from typing import Any

from maquette.conditions.requirements import kind_of
from maquette.data.check import Report, check
from maquette.data.crop import ResizeCrop
from maquette.data.sources.jsonl import Columns
from maquette.data.sources.open import find_reader


def look_through(settings: Mapping[str, Any], size: int) -> Report:
    """The findings on every row.

    Args:
        settings: of a training, by name: its condition, data and detect.
        size: of the pictures of the base, in pixels.

    Raises `MaquetteError` for a folder that is no data set.
    """
    columns = Columns(has_conditions=not settings.get("detect", False))
    framing = ResizeCrop((size, size), kind=kind_of(settings["condition"]))
    return check(find_reader(settings["data"], columns)(), framing)
