"""Controls as they are written on the command line. This module does not import torch.

--control "canny:house.png,weight=0.8,end=0.5" --control "depth:scene.png,map=yes,net=runs/mine,mask=left.png"
"""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maquette.conditions.labels import check_palette
from maquette.conditions.registry import detector_spec, detectors
from maquette.conditions.requirements import drawn_by
from maquette.controlnet.choices import Balance, Branch, check_strength
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.bundle import world_of
from maquette.foundation.registry import unknown
from maquette.foundation.settings import read_value

EXAMPLE = "canny:house.png,weight=0.8,end=0.5"


@dataclass(frozen=True)
class ControlRequest:
    """A control before anything is loaded.

    Raises `MaquetteError` for a value out of range.
    """

    condition: str
    image: Path | None = None  # None: the command's IMAGE
    is_map: bool = False
    net: str | None = None  # None: the base's own
    weight: float | list[float] = 1.0
    start: float = 0.0
    end: float = 1.0
    mask: Path | None = None
    balance: Balance = "balanced"
    curve: list[list[float]] | None = None
    branch: Branch | None = None
    type: str | None = None  # of a union ControlNet; None: the condition's name
    paint: Path | None = None  # where a picture is to be painted in
    picture: Path | None = None  # that picture; None: the image, of which there is no map then
    options: dict[str, Any] = field(default_factory=dict)  # of the detector; of a map, its palette

    def __post_init__(self) -> None:
        curve = [(done, factor) for done, factor in self.curve] if self.curve else None
        check_strength(self.weight, self.start, self.end, self.balance, curve, self.branch)
        if self.is_map and self.palette is not None:
            check_palette(self.palette)
        self._check_paint()
        if self.is_map and set(self.options) - {"palette"}:
            words = "Options have no effect with a map, but for palette=NAME of a map of class numbers."
            warnings.warn(words, MaquetteWarning, stacklevel=3)

    @property
    def is_picture(self) -> bool:
        """Whether its image is a picture to paint in, without a map."""
        return self.paint is not None and self.picture is None

    def _check_paint(self) -> None:
        if self.paint is None:
            if self.picture is not None:
                raise MaquetteError("picture is painted in where paint=MASK is white; give that, too.")
            return
        if self.net is None:
            raise MaquetteError(
                "paint is for a ControlNet that paints in, and none is named; give it as --controlnet, or in --control "
                "as net=..."
            )
        if self.picture is None and (self.is_map or self.options):
            raise MaquetteError("An image to paint in is taken as it is; leave out map and the detector's options.")

    @property
    def palette(self) -> str | None:
        """Of a map of class numbers; None for one in colours."""
        return self.options.get("palette")

    def net_name(self, base: str) -> str:
        """The ControlNet that it runs."""
        return self.net or f"{base}/{self.condition.removeprefix(f'{world_of(base)}/')}"

    def detector(self, base: str) -> str | None:
        """The name of the detector that makes its map, the base's own if it has one; None for an image taken as it is.

        Raises `MaquetteError` for an unknown detector, one that writes text, and for options that it does not have.
        """
        if self.is_map or self.is_picture:
            return None
        name = drawn_by(self.condition, base)
        if name in detectors and detectors[name].outputs_text:
            raise MaquetteError(f"{name} writes text, which is not a condition map; give it as --prompt.")
        with suggest_map(self.condition):
            detector_spec(name).options.given(name, self.options)
        return name


@contextmanager
def suggest_map(condition: str) -> Iterator[None]:
    """Adds to a `MaquetteError` of a detector that a condition map can be passed instead. Raises `MaquetteError`."""
    try:
        yield
    except MaquetteError as error:
        raise MaquetteError(f"{error} Or give a {condition} map with --map (map=yes in --control).") from None


def read_control(text: str) -> ControlRequest:
    """Parse CONDITION[:IMAGE][,NAME=VALUE...]; other names than those of a control are options of the detector.

    Raises `MaquetteError` for another form, an unknown or repeated name, and for values out of range.
    """
    head, *rest = re.split(r",(?=\s*[A-Za-z]\w*=)", text)
    condition, colon, image = head.partition(":")
    if not condition or "=" in condition or (colon and not image):
        raise MaquetteError(f"--control is CONDITION:IMAGE,NAME=VALUE..., such as {EXAMPLE!r}, not {text!r}.")
    known = {**READ, **dict.fromkeys([*_options_of(condition), "palette"], read_value)}
    values: dict[str, Any] = {}
    for item in rest:
        name, _, value = item.strip().partition("=")
        if name not in known:
            raise MaquetteError(unknown("setting of --control", name, list(known)))
        if name in values:
            raise MaquetteError(f"--control {text!r} gives {name} twice; give it once.")
        values[name] = known[name](value)
    own = {FIELDS.get(name, name): value for name, value in values.items() if name in READ}
    options = {name: value for name, value in values.items() if name not in READ}
    return ControlRequest(condition, Path(image) if image else None, **own, options=options)


def _options_of(condition: str) -> list[str]:
    """Names of the options of a condition's detector; none for a condition that only maps can give."""
    if condition not in detectors:
        return []
    return [described.name for described in detectors[condition].options.described()]


def read_numbers(text: str, separator: str, what: str) -> list[float]:
    """Parse numbers. Raises `MaquetteError`, naming `what`, for anything else."""
    try:
        return [float(number) for number in text.split(separator)]
    except ValueError:
        raise MaquetteError(f"{what}, not {text!r}.") from None


def read_weight(text: str) -> float | list[float]:
    """Parse a weight: a number, or one for each slot, separated by |."""
    weights = read_numbers(text, "|", "weight is a number, or one for each slot as in 1|0.5|0.2")
    return weights if len(weights) > 1 else weights[0]


def read_curve(text: str) -> list[list[float]]:
    """Parse points of a curve, such as 0:1|0.5:0.8|1:0.2: fraction of the steps and factor.

    Raises `MaquetteError` for anything else.
    """
    what = "curve is points FRACTION:FACTOR such as 0:1|1:0.2"
    points = [read_numbers(point, ":", what) for point in text.split("|")]
    if any(len(point) != 2 for point in points):
        raise MaquetteError(f"{what}, not {text!r}.")
    return points


def _read_share(text: str) -> float:
    return read_numbers(text, "|", "start and end are fractions of the steps from 0 to 1")[0]


def _read_yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise MaquetteError(f"map is yes or no, not {text!r}.")
    return text == "yes"


READ: dict[str, Callable[[str], Any]] = {
    "net": str, "map": _read_yes, "weight": read_weight, "start": _read_share, "end": _read_share, "mask": Path,
    "balance": str, "curve": read_curve, "branch": str, "type": str, "paint": Path, "picture": Path,
}  # fmt: skip
"""How each setting of --control is parsed."""

FIELDS = {"map": "is_map"}
"""Fields of `ControlRequest` that are not called as the setting is."""


def shared(controls: Sequence[ControlRequest]) -> list[ControlRequest]:
    """The controls that take the command's IMAGE."""
    return [control for control in controls if control.image is None]
