"""What can be chosen of a ControlNet, by name or number; torch is not imported for it."""

from typing import Literal

from maquette.errors import MaquetteError

EncoderName = Literal["release", "paper"]
"""Layout of the condition encoder: the published one, or the paper's words."""
Connect = Literal["all", "middle"]
"""Which residuals are used: every slot, or the middle block's alone (small-scale training)."""
Variant = Literal["zero", "gaussian", "lite"]
"""Zero convolutions; Gaussian ones or convolutions in the copy's place, for ablations."""


def check_strength(weight: float, start: float, end: float) -> None:
    """`MaquetteError` for a control's weight or span of steps that cannot be."""
    if not 0 <= start <= end <= 1:
        raise MaquetteError(
            f"A control's start and end are shares of the steps with 0 ≤ start ≤ end ≤ 1, "
            f"not start={start} and end={end}."
        )
    if not -10 <= weight <= 10:
        raise MaquetteError(f"A control's weight lies between -10 and 10, usually 0 to 2, not {weight}.")
