"""What a ControlNet expects as input, saved with its weights, so that misuse is detected.

Saved as JSON both in config.json ("_maquette": {"contract": ...}) and in the metadata of the safetensors file
("maquette.contract"); either one is enough.
"""

import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from torch import Tensor

from maquette.errors import MaquetteError, MaquetteWarning
from maquette.formats.union import published_types
from maquette.foundation.images import MapKind, Order
from maquette.foundation.reading.documents import parse_json
from maquette.foundation.reading.rules import Rule, check_values, listed, optional, typed

SAMPLES = 64  # weights in a fingerprint
METADATA = "maquette.contract"
OURS = "_maquette"  # our part of config.json; diffusers ignores a key that begins so, and would print any other

ALIKE = 2**-7  # relative: above the rounding error of bfloat16, below the changes of fine-tuning


def fingerprint(unet: Mapping[str, Tensor]) -> tuple[float, ...]:
    """A sample of a base's weights, spread over its tensors by name; equal up to rounding in any precision.

    Args:
        unet: the base's tensors by name, of any shape.
    """
    names = sorted(name for name in unet if name.endswith("weight") and "norm" not in name)
    chosen = [unet[names[number * len(names) // SAMPLES]] for number in range(SAMPLES)]
    values = (float(weight.flatten()[(number * 7919) % weight.numel()]) for number, weight in enumerate(chosen))
    return tuple(float(f"{value:.6g}") for value in values)


def ours(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our part of a config.json; up to version 0.2 its key was "maquette"."""
    return dict(config.get(OURS, config.get("maquette", {})))


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        contract = parse_json(text)
    except ValueError:
        contract = text
    if contract is not None and not isinstance(contract, dict):
        raise MaquetteError(f"The contract in the weights' metadata is not JSON: {text[:40]!r}; download them again.")
    return contract


_TEXT, _NUMBER = typed(str), typed(float, -1e6, 1e6)
RULES: dict[str, Rule] = {
    "condition_range": listed(_NUMBER, 2, 2),
    "channel_order": typed(Literal["rgb", "bgr"]),
    "detector": optional(_TEXT),
    "detector_version": optional(_TEXT),
    "detector_options": optional(_TEXT),
    "resize": optional(_TEXT),
    "order": optional(typed(Order)),
    "categorical": typed(bool),
    "lines": typed(bool),
    "base": optional(_TEXT),
    "base_fingerprint": optional(listed(_NUMBER, 0, 1000)),
    "prompt_drop": optional(typed(float, 0, 1)),
    "optimizer_steps": optional(typed(int, 0)),
    "optimiser_steps": optional(typed(int, 0)),
    "pooled": typed(bool),
    "types": optional(listed(_TEXT, 1, 64)),
    "encoded_range": optional(listed(_NUMBER, 2, 2)),
}
"""What a stored contract may hold."""


def _told_by(values: Mapping[str, Any]) -> dict[str, Any]:
    """Order and kind of maps as the other entries of an older contract tell them: its detector, and how it resized."""
    from maquette.conditions.registry import detectors  # here, as networks alone need no detectors

    resize, detector = values.get("resize") or "", values.get("detector") or ""
    spec = next((detectors[name] for name in (detector, detector.rsplit("/")[-1]) if name in detectors), None)
    unresized = resize.startswith("none")
    return {
        "order": "frame, then detect" if unresized else None,
        "categorical": "nearest" in resize or (spec is not None and spec.categorical),
        "lines": unresized and spec is not None and spec.lines,
    }


@dataclass(frozen=True)
class Contract:
    """The defaults are what every published ControlNet expects; `stated` is True if the file itself has a contract."""

    stated: bool = False
    condition_range: tuple[float, float] = (0.0, 1.0)  # of the condition's values
    channel_order: Literal["rgb", "bgr"] = "rgb"
    detector: str | None = None  # made its condition maps
    detector_version: str | None = None  # package and version
    detector_options: str | None = None  # as text
    resize: str | None = None  # how maps were resized to the images' size
    order: Order | None = None  # whether maps were detected in framed images, or detected and then resized
    categorical: bool = False  # the maps' colours are classes: maps of another size are resized by the nearest pixel
    lines: bool = False  # the maps are lines, white on black, which resizing keeps whole
    base: str | None = None  # the base it was trained on, by name
    base_fingerprint: tuple[float, ...] | None = None  # `fingerprint` of that base
    prompt_drop: float | None = None  # share of empty prompts in training
    optimizer_steps: int | None = None
    pooled: bool = False  # shuffle: residuals are averaged over the image, in the conditional branch only
    types: tuple[str, ...] | None = None  # of a union: the kinds of condition by number, each as its names, "a/b/c"
    encoded_range: tuple[float, float] | None = None  # the autoencoder's input for 0 and 1, where not −1 and 1

    @property
    def kind(self) -> MapKind:
        """How maps of another size are resized for it."""
        return "classes" if self.categorical else "lines" if self.lines else "smooth"

    def as_encoded(self, maps: Tensor) -> Tensor:
        """Condition maps (B, 3, H, W) in [0, 1] as the autoencoder is given them, whose own [0, 1] is [−1, 1] to it."""
        if self.encoded_range is None:
            return maps
        low, high = self.encoded_range
        return (low + maps * (high - low) + 1) / 2

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "stated" and value is not None}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Contract":
        """Read what `to_json` wrote, in this version or an earlier one.

        Raises `MaquetteError` for a value of another type or out of range.
        """
        check_values(values, RULES, "the contract of a ControlNet", "take the ControlNet as it was saved")
        if "optimiser_steps" in values:  # as version 0.1 wrote it
            values = {"optimizer_steps": values["optimiser_steps"], **values}
        if "categorical" not in values:  # as versions before 0.3 wrote it
            values = {**_told_by(values), **values}
        known = {field.name for field in fields(Contract)}
        read: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key in known
        }
        return Contract(**{**read, "stated": True})

    @staticmethod
    def read(config: Mapping[str, Any], metadata: Mapping[str, str]) -> "Contract":
        """From config.json or the weights' metadata; without either, the published defaults.

        diffusers' two keys in config.json count too: `global_pool_conditions` and
        `controlnet_conditioning_channel_order`.
        """
        stored = ours(config).get("contract") or _parsed(metadata.get(METADATA, "null"))
        types = published_types(config)
        if stored is not None:
            contract = Contract.from_json(stored)
            return replace(contract, types=contract.types or types)
        order = config.get("controlnet_conditioning_channel_order", "rgb")
        return Contract(channel_order=order, pooled=bool(config.get("global_pool_conditions")), types=types)

    def type_number(self, name: str | None) -> int:
        """The number of a union's kind of condition, by any of its names.

        Raises `MaquetteError` for an unknown or missing name.
        """
        kinds = self.types or ()
        found = next((number for number, names in enumerate(kinds) if name in names.split("/")), None)
        if found is not None:
            return found
        known = ", ".join(kinds)
        asked = "say which one it is given" if name is None else f"and {name!r} is none of them"
        raise MaquetteError(f"This ControlNet follows several kinds of condition, {asked} (type=): {known}.")

    def belongs_to(self, other: Sequence[float]) -> bool | None:
        """Whether a base with this fingerprint is the one it was trained on; None if unknown."""
        trained = self.base_fingerprint
        if trained is None:
            return None
        if len(trained) != len(other):
            return False
        return all(abs(a - b) <= ALIKE * abs(a) + 1e-6 for a, b in zip(trained, other, strict=True))

    def check_detector(self, name: str, known: Container[str]) -> None:
        """Warn if it was trained on maps of another detector; if it names none, any will do.

        The diorama's own detectors differ from those of the same name for photographs. Where the diorama has none, as
        for edges, the general detector of that name made the maps.

        Args:
            known: the names of all detectors.
        """
        trained = self.detector if self.detector in known else (self.detector or name).rsplit("/")[-1]
        if trained != name:
            warnings.warn(
                f"This ControlNet was trained on maps of {self.detector!r} and is given {name!r}: it may follow them "
                f"poorly. Use a ControlNet for {name}, or maps of the detector it was trained on.",
                MaquetteWarning,
                stacklevel=2,
            )
