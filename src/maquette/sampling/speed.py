"""Approximate speed by name: what each speed takes, of parts that can all be set by themselves.

This module does not import torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown

if TYPE_CHECKING:
    from maquette.base import Base

Speed = Literal["exact", "balanced", "draft"]
Decoder = Literal["full", "tiny"]
Shares = tuple[float, float]

WHOLE: Shares = (0.0, 1.0)
MOST_REUSE = 10  # steps for one run of the encoder
NEUTRAL: dict[str, Any] = {"guidance_interval": WHOLE, "reuse": 1, "decoder": "full"}
"""The parts that only speed has, where they change nothing."""

PARTS = ("steps", "sampler", *NEUTRAL)
"""All settings that a speed decides where they are not given."""


@dataclass(frozen=True)
class Preset:
    """What a speed takes; docs/speed.md has the measurements that it was chosen by."""

    steps: float  # share of the base's
    sampler: str  # where the base's noise process has it, else the base's own
    guidance_interval: Shares
    reuse: int  # where the backbone can, else 1
    decoder: Decoder  # "tiny" where the base was given one; one of its own is for previews


PRESETS: dict[str, Preset] = {
    "balanced": Preset(0.5, "dpm++", (0.0, 0.6), 1, "full"),
    "draft": Preset(0.3, "dpm++", (0.0, 0.5), 2, "tiny"),
}


def check_speed(speed: object) -> None:
    """Raises `MaquetteError` for an unknown speed."""
    if speed not in get_args(Speed):
        raise MaquetteError(unknown("speed", speed, get_args(Speed)))


def parts_on(base: "Base", speed: str) -> dict[str, Any]:
    """What a speed takes on a base: its own defaults for "exact", and of a preset what the base can.

    Raises `MaquetteError` for an unknown speed.
    """
    check_speed(speed)
    parts = {**vars(base.defaults), **NEUTRAL}
    if speed == "exact":
        return parts
    preset = PRESETS[speed]
    return parts | {
        "steps": max(1, round(preset.steps * base.defaults.steps)),
        "sampler": preset.sampler if preset.sampler in base.noise.samplers else base.defaults.sampler,
        "guidance_interval": preset.guidance_interval,
        "reuse": preset.reuse if can_reuse(base) else 1,
        "decoder": preset.decoder if base.tiny_decoder is not None and base.tiny_decoder.name else "full",
    }


def can_reuse(base: "Base") -> bool:
    """Whether the backbone has an encoder whose features its decoder can take again, as a U-Net has."""
    return hasattr(base.backbone, "resume")


def check_parts(base: "Base", reuse: int, decoder: str) -> None:
    """Raises `MaquetteError` for parts that a base cannot take."""
    if reuse > 1 and not can_reuse(base):
        raise MaquetteError(
            f"The base {base.name!r} has no encoder that steps could share, as U-Nets have; leave reuse at 1, not "
            f"{reuse}."
        )
    if decoder == "tiny":
        base.require_tiny_decoder()


def in_interval(interval: Shares, step: int, steps: int) -> bool:
    """Whether a step lies in an interval of the steps, by the same rule as for a control's start and end."""
    return step / steps >= interval[0] and (step + 1) / steps <= interval[1]


def read_interval(text: str) -> Shares:
    """Parse an interval written START-END, such as 0.1-0.8. Raises `MaquetteError` for another form."""
    try:
        start, end = (float(part) for part in text.split("-"))
    except ValueError as error:
        raise MaquetteError(f"guidance_interval is START-END, such as 0.1-0.8, not {text!r}.") from error
    return check_interval((start, end))


def check_interval(value: Any) -> Shares:
    """An interval of the steps, as a pair.

    Raises `MaquetteError` for anything but two shares of the steps, the smaller one first.
    """
    pair = isinstance(value, tuple | list) and len(value) == 2
    numbers = pair and all(isinstance(share, int | float) and not isinstance(share, bool) for share in value)
    if not numbers or not 0 <= value[0] < value[1] <= 1:  # NaN fails every comparison
        raise MaquetteError(
            f"guidance_interval is (start, end), shares of the steps with 0 <= start < end <= 1, not {value!r}; (0, 1) "
            "guides in all."
        )
    return float(value[0]), float(value[1])


def without_parts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a generation without those that a speed decides."""
    return {name: value for name, value in settings.items() if name not in PARTS}
