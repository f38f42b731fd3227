"""What a U-Net's encoder and the ControlNets computed at a key step, for the steps after it: encoder propagation.

Features of the encoder change little from one step to the next, those of the decoder much; so the decoder runs at every
step, on the features and residuals of the last key step (Faster Diffusion, Li et al. 2023).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maquette.backbones.residuals import Residuals

SURE = 2  # first steps that are always key steps: there the features change most


def is_key(step: int, every: int) -> bool:
    """Whether the encoder and the ControlNets run at a step, from 0: the first two and every so-many-th of them."""
    return step < SURE or (step - SURE + 1) % every == 0


@dataclass
class _Held:
    value: Any
    tensors: Sequence[Tensor | None]  # (B, C, h, w) per slot
    rows: int  # of the batch
    drift: Tensor | None  # (), relative change since what was held before


class Kept:
    """What each part of a denoiser computed at its last key step: the encoder, and every control."""

    def __init__(self, every: int) -> None:
        self.every = every  # steps for one key step; 1: all are
        self._held: dict[str, _Held] = {}

    def state(self, step: int, rows: int, run: Callable[[], Any], resume: Callable[[Any], Any]) -> Any:
        """The encoder's state for so many rows: `run` at key steps, else `resume` with the one that is held."""
        if not self._needs("encoder", step, rows):
            return resume(self._held["encoder"].value)
        state = run()
        self._hold("encoder", state, state.features, rows)
        return state

    def residuals(self, part: str, step: int, rows: int, run: Callable[[], Residuals]) -> Residuals:
        """A control's residuals for so many rows, before any weight: `run` at key steps, else those that are held.

        A ControlNet that predicts by itself is no encoder: it runs at every step.
        """
        if not self._needs(part, step, rows) and not self._held[part].value.own:
            held: Residuals = self._held[part].value.last(rows)
            return held
        residuals = run()
        self._hold(part, residuals, residuals.values, rows)
        return residuals

    @property
    def drift(self) -> dict[str, float]:
        """By part, how far its last run was from the one before: |new − old| / |new|, over all slots."""
        return {part: float(held.drift) for part, held in self._held.items() if held.drift is not None}

    def _needs(self, part: str, step: int, rows: int) -> bool:
        """Whether a part has to run: at key steps, and where too few rows are held."""
        return is_key(step, self.every) or part not in self._held or self._held[part].rows < rows

    def _hold(self, part: str, value: Any, tensors: Sequence[Tensor | None], rows: int) -> None:
        """Keep a part's value, of which the tensors (B, C, h, w) per slot tell the drift."""
        before = self._held.get(part)
        self._held[part] = _Held(value, tensors, rows, None if before is None else _distance(tensors, before.tensors))


def _distance(new: Sequence[Tensor | None], old: Sequence[Tensor | None]) -> Tensor | None:
    """|new − old| / |new|, (), of tensors (B, C, h, w) per slot, over the rows that both have; None without any."""
    pairs = [(a, b) for a, b in zip(new, old, strict=True) if a is not None and b is not None]
    if not pairs:
        return None
    rows = min(min(len(a), len(b)) for a, b in pairs)
    moved = sum((a[-rows:] - b[-rows:]).float().square().sum() for a, b in pairs)
    size = sum(a[-rows:].float().square().sum() for a, _ in pairs)
    return torch.as_tensor(moved / size).sqrt()
