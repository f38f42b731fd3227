"""The state of an unfinished training: written whole, read without running code."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from maquette.foundation.files import written_whole

Parts = Mapping[str, nn.Module | torch.optim.Optimizer]
"""What has a state, by the name it is kept under."""


def save(path: Path, step: int, parts: Parts) -> None:
    """Write the state of `parts` after `step` optimiser steps, all or nothing."""
    state = {name: part.state_dict() for name, part in parts.items()}
    with written_whole(path) as temporary:
        torch.save({"step": step, **state}, temporary)


def restore(path: Path, parts: Parts) -> int:
    """Put the state written at `path` back into `parts`; the step it was written after, 0 without a file."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    step: int = state["step"]
    return step
