"""The state of an unfinished training: written whole, read without running code, the same however many processes."""

import errno
import pickle
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.files import atomic_write

Parts = Mapping[str, Any]
"""What has a `state_dict`, by the name it is kept under."""

KEPT = 2  # states of a run
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def save(path: Path, step: int, parts: Parts) -> None:
    """Write the state of `parts` after `step` optimizer steps, all or nothing.

    Raises `MaquetteError` where the disk is full; what was written before stays.
    """
    state = {name: part.state_dict() for name, part in parts.items()}
    write(path, {"step": step, **state})


def write(path: Path, state: Mapping[str, Any]) -> None:
    try:
        with atomic_write(path) as temporary:
            torch.save(dict(state), temporary)
    except (OSError, RuntimeError) as error:  # torch's writer hides the system's error in one of its own
        cause = error.errno if isinstance(error, OSError) else None
        if cause not in NO_ROOM and "file write failed" not in str(error) and "enforce fail" not in str(error):
            raise
        free = shutil.disk_usage(path.parent).free
        raise MaquetteError(
            f"The disk is full: {str(path)!r} could not be written ({free / 2**20:.0f} MiB are free). What was saved "
            "before it is whole; make room and go on with --resume."
        ) from error


def restore(path: Path, parts: Parts) -> int:
    """Put the state written at `path` back into `parts`; the step it was written after, 0 without a file."""
    if not path.exists():
        return 0
    state = read(path)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    step: int = state["step"]
    return step


def read(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def last(folder: Path) -> dict[str, Any] | None:
    """The last state of a run that can be read; None where there is none yet."""
    for path in reversed(states(folder)):
        try:
            return read(path)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            words = f"{str(path)!r} is damaged ({error}); the run goes on from the state before it."
            warnings.warn(words, MaquetteWarning, stacklevel=2)
    return None


def states(folder: Path) -> list[Path]:
    """The states of a run, the oldest first."""
    found = [path for path in folder.glob("state-*.pt") if re.fullmatch(r"state-\d+\.pt", path.name)]
    return sorted(found, key=lambda path: int(path.stem.partition("-")[2]))


def state_at(folder: Path, step: int) -> Path:
    return folder / f"state-{step:06d}.pt"


def forget_old(folder: Path) -> None:
    """Remove all states but the last two, and what a kill left of one that was being written."""
    for path in (*states(folder)[:-KEPT], *folder.glob(".state-*.pt")):
        path.unlink()
