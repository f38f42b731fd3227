"""The state of an unfinished training: written whole, read without running code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from maquette.foundation.files import written_whole


class Stateful(Protocol):
    """A module, an optimiser: anything whose state is a dictionary of tensors."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


def save(path: Path, step: int, parts: Mapping[str, Stateful]) -> None:
    """Write the state of `parts` after `step` optimiser steps, all or nothing."""
    state = {name: part.state_dict() for name, part in parts.items()}
    with written_whole(path) as temporary:
        torch.save({"step": step, **state}, temporary)


def restore(path: Path, parts: Mapping[str, Stateful]) -> int:
    """Put the state written at `path` back into `parts`; the step it was written after, 0 without a file."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    step: int = state["step"]
    return step
