"""The options of a ControlNet and their limits, without importing torch."""

from typing import Literal

from maquette.errors import MaquetteError

EncoderName = Literal["release", "paper"]
"""Layout of the condition encoder: the published one, or the one the paper describes."""
Connect = Literal["all", "middle"]
"""Which residuals are used: those of every slot, or only the middle block's (small-scale training)."""
Variant = Literal["zero", "gaussian", "lite"]
"""Zero convolutions; or, for ablations, Gaussian ones, or plain convolutions instead of the copy ("lite")."""


def check_strength(weight: float, start: float, end: float) -> None:
    """Raises `MaquetteError` for a control's weight or range of steps outside the limits."""
    if not 0 <= start <= end <= 1:
        raise MaquetteError(
            f"A control's start and end are shares of the steps with 0 ≤ start ≤ end ≤ 1, "
            f"not start={start} and end={end}."
        )
    if not -10 <= weight <= 10:
        raise MaquetteError(f"A control's weight lies between -10 and 10, usually 0 to 2, not {weight}.")
