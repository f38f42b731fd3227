"""Whether a ControlNet is one of a transformer's family, and of its widths."""

from maquette.errors import MaquetteError
from maquette.foundation.weights import Shape, Weights


def check_fit(weights: Weights, family: str, is_control: bool, condition: str, expected: Shape) -> None:
    """Check that a ControlNet fits a base.

    Args:
        family: its name, for messages.
        is_control: whether the tensors are a ControlNet of the family.
        condition: the tensor by which the condition enters.
        expected: its shape on the base.

    Raises `MaquetteError` if the weights are none of the family, or made for a base of other widths.
    """
    if not is_control:
        raise MaquetteError(
            f"{str(weights.source)!r} holds no ControlNet for {family}, which this base is (the first of its tensors: "
            f"{min(weights, default=None)!r}); load the base that it was trained on, or give one for this."
        )
    found = weights.shapes[condition]
    if found != expected:
        raise MaquetteError(
            f"The ControlNet in {str(weights.source)!r} is made for another {family}: its condition enters by the "
            f"shape {found}, on this base by {expected}; load the base it was trained on."
        )
