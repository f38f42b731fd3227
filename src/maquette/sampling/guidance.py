"""Classifier-free guidance, and where the condition enters it (v3 §3.4)."""

from collections.abc import Sequence

from torch import Tensor

from maquette.backbones.protocol import Slot
from maquette.sampling.config import ResolutionWeights


def classifier_free(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """ε = ε_uc + β (ε_c − ε_uc)."""
    return unconditional + scale * (conditional - unconditional)


def resolution_weights(slots: Sequence[Slot], kind: ResolutionWeights = "normalised") -> list[float]:
    """A factor a slot: w_i = 64 / h_i, h_i the block's resolution (v3 §3.4), for latents of any size.

    Taken literally that is 8 at the lowest level and 1 at the highest, which strengthens, where the text says it
    weakens; "normalised" divides by the largest, so that it does: 1 at the lowest level, 1/8 at the highest.
    """
    largest = max(slot.downscale for slot in slots) if kind == "normalised" else 1
    return [slot.downscale / largest for slot in slots]
