"""Classifier-free guidance, and where the condition enters it (v3 §3.4)."""

from collections.abc import Sequence

from torch import Tensor

from maquette.backbones.protocol import Slot
from maquette.sampling.config import ResolutionWeights


def classifier_free(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """ε = ε_uc + β (ε_c − ε_uc) (Ho and Salimans 2022), elementwise on tensors of the same shape (B, C, h, w)."""
    return unconditional + scale * (conditional - unconditional)


def resolution_weights(slots: Sequence[Slot], kind: ResolutionWeights = "normalised") -> list[float]:
    """One factor per slot: w_i = 64 / h_i, h_i the block's resolution (v3 §3.4), for latents of any size.

    Taken literally, the weights are 8 at the lowest level and 1 at the highest, which strengthens the control where the
    paper says it is weakened. "normalised" divides by the largest weight: 1 at the lowest level, 1/8 at the highest.
    """
    largest = max(slot.downscale for slot in slots) if kind == "normalised" else 1
    return [slot.downscale / largest for slot in slots]
