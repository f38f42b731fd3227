"""A control of a request."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from maquette.conditions.labels import check_palette
from maquette.conditions.registry import detector_spec
from maquette.conditions.requirements import drawn_by
from maquette.controlnet.choices import Balance, Branch, check_strength
from maquette.errors import MaquetteError, shortened
from maquette.foundation.reading.rules import Rule, either, listed, optional, typed
from maquette.foundation.registry import unknown
from maquette.studio.pictures import Picture, Resolve
from maquette.studio.requests.fields import NUMBER, about, anything, checked, pictures
from maquette.studio.requests.limits import Limits

if TYPE_CHECKING:
    from maquette.base import Base


@dataclass(frozen=True)
class Layer:
    """A control of a request: a picture to detect in, or a ready map, and how it acts.

    `controlnet.control.Control` documents the settings.
    """

    condition: str
    picture: Picture
    is_map: bool = False
    net: str | None = None  # one that the studio offers; None: the base's own for the condition
    weight: float | list[float] = 1.0
    start: float = 0.0
    end: float = 1.0
    mask: Picture | None = None  # the region where it acts: white
    balance: Balance = "balanced"  # the weights of the slots: even, softer for the prompt, or in the prompt's branch
    curve: list[list[float]] | None = None
    branch: Branch | None = None
    palette: str | None = None  # of a map of class numbers
    options: dict[str, Any] = field(default_factory=dict)  # of the detector

    @staticmethod
    def read(values: Any, limits: Limits, resolve: Resolve | None = None) -> "Layer":
        """From plain values by name. Raises `MaquetteError` with the field that it is about."""
        values = checked(values, LAYER, "a layer", ("condition", "picture"))
        read = {**values, **pictures(values, ("picture", "mask"), limits, resolve)}
        layer = Layer(**read)
        points = [(done, factor) for done, factor in layer.curve] if layer.curve else None
        settings: dict[str, Any] = {"weight": layer.weight, "start": layer.start, "end": layer.end}
        for name, value in settings.items():
            with about(name):
                usual: dict[str, Any] = {"weight": 1.0, "start": 0.0, "end": 1.0}
                check_strength(**{**usual, name: value})
        with about("end"):
            check_strength(layer.weight, layer.start, layer.end)
        with about("curve" if points else "balance"):
            check_strength(layer.weight, layer.start, layer.end, layer.balance, points, layer.branch)
        if layer.palette is not None:
            with about("palette"):
                check_palette(layer.palette)
        return layer

    def net_name(self, offered: Mapping[str, str]) -> str:
        """The ControlNet that it runs: the one named, else the first that is offered for the condition.

        Args:
            offered: the condition of each ControlNet that the studio offers, by name.

        Raises `MaquetteError` for one that is not offered, and where none is for the condition.
        """
        suited = [name for name, condition in offered.items() if condition == self.condition]
        if (self.net and self.net not in offered) or not (self.net or suited):
            kind = "ControlNet" if self.net else "ControlNet for the condition"
            known = list(offered) if self.net else list(dict.fromkeys(offered.values()))
            with about("net" if self.net else "condition"):
                raise MaquetteError(unknown(kind, self.net or self.condition, known))
        return self.net or suited[0]

    def detector(self, base: str) -> str | None:
        """The name of the detector that makes its map, the base's own if it has one; None for a ready map.

        Raises `MaquetteError` for an unknown detector, one that writes text, and for options that it does not have.
        """
        if self.is_map:
            return None
        name = drawn_by(self.condition, base)
        with about("condition"):
            spec = detector_spec(name)
            if spec.outputs_text:
                raise MaquetteError(f"{name} writes text, which is not a condition map; choose another condition.")
        with about("options"):
            spec.options.given(name, self.options)
        return name

    def check(self, base: "Base", offered: Mapping[str, str]) -> None:
        """Check it against the base that is loaded and the ControlNets that are offered, as for `net_name`.

        Raises `MaquetteError` also for another number of weights than the base has slots.
        """
        self.net_name(offered)
        self.detector(base.name)
        slots = len(base.backbone.slots)
        if isinstance(self.weight, list) and len(self.weight) != slots:
            with about("weight"):
                raise MaquetteError(
                    f"A layer's list has {len(self.weight)} weights; the base {base.name!r} has {slots} slots: give "
                    "so many."
                )


def _options(value: Any) -> str | None:
    """The rule of a detector's options, which it checks itself."""
    if not isinstance(value, dict) or len(value) > 64:
        return f"is an object with the detector's options by name, not {shortened(repr(value), 80)}"
    plain = all(isinstance(item, str | int | float | bool | None) for item in value.values())
    return None if plain else "holds numbers and texts alone"


LAYER: dict[str, Rule] = {
    "condition": typed(str), "picture": anything, "is_map": typed(bool), "net": optional(typed(str)),
    "weight": either(NUMBER, listed(NUMBER, 1, 1000)), "start": NUMBER, "end": NUMBER, "mask": anything,
    "balance": typed(Balance), "curve": optional(listed(listed(NUMBER, 2, 2), 1, 1000)),
    "branch": optional(typed(Branch)), "palette": optional(typed(str)), "options": _options,
}  # fmt: skip
"""Every field, and what it may be by type; ranges are those of the library."""

assert set(LAYER) == {one.name for one in fields(Layer)}
