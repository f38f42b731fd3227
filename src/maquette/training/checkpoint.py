"""Training checkpoints: written atomically, read without executing code, independent of the number of processes."""

import errno
import re
import shutil
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.files import atomic_write

Parts = Mapping[str, Any]
"""Objects with a `state_dict`, by the name they are saved under."""

KEPT = 2  # checkpoints per run
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def save(path: Path, step: int, parts: Parts) -> None:
    """Write the state of `parts` after `step` optimizer steps, atomically.

    Raises `MaquetteError` if the disk is full; earlier checkpoints stay intact.
    """
    state = {name: part.state_dict() for name, part in parts.items()}
    write(path, {"step": step, **state})


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state atomically.

    Raises `MaquetteError` if the disk is full; earlier checkpoints stay intact.
    """
    try:
        with atomic_write(path) as temporary:
            torch.save(dict(state), temporary)
    except (OSError, RuntimeError) as error:  # torch's writer wraps the OSError in a RuntimeError
        cause = error.errno if isinstance(error, OSError) else None
        if cause not in NO_ROOM and "file write failed" not in str(error) and "enforce fail" not in str(error):
            raise
        free = shutil.disk_usage(path.parent).free
        raise MaquetteError(
            f"The disk is full: {str(path)!r} could not be written ({free / 2**20:.0f} MiB free). Earlier checkpoints "
            "are intact; free some space and continue with --resume."
        ) from error


def restore(path: Path, parts: Parts) -> int:
    """Load the state at `path` into `parts` and return its step; 0 if there is no file."""
    if not path.exists():
        return 0
    state = read(path)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    step: int = state["step"]
    return step


def read(path: Path) -> dict[str, Any]:
    """The state at `path`, on the CPU.

    Raises `MaquetteError` if the file has changed since it was written, or is none of ours.
    """
    try:
        damaged = zipfile.ZipFile(path).testzip()  # torch stores a checksum of each part and does not compare it
        if damaged is not None:
            raise zipfile.BadZipFile(f"the checksum of {damaged!r} does not match")
        return _load(path)
    except Exception as error:  # damage makes readers fail in more ways than can be listed
        raise MaquetteError(f"{str(path)!r} is damaged ({error}).") from error


def _load(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def last(folder: Path) -> dict[str, Any] | None:
    """The latest undamaged state of a run; None if it has saved none.

    Raises `MaquetteError` if all of them are damaged.
    """
    problems: list[str] = []
    for path in reversed(states(folder)):
        try:
            state = read(path)
        except MaquetteError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            warnings.warn(f"{problem} The run continues from {path.name}.", MaquetteWarning, stacklevel=2)
        return state
    if problems:
        raise MaquetteError(
            f"No state of the run in {str(folder)!r} can be read. {' '.join(problems)} Put an undamaged copy in the "
            "place of one, or start again in another folder."
        )
    return None


def states(folder: Path) -> list[Path]:
    """The state files of a run, oldest first."""
    found = [path for path in folder.glob("state-*.pt") if re.fullmatch(r"state-\d+\.pt", path.name)]
    return sorted(found, key=lambda path: int(path.stem.partition("-")[2]))


def state_at(folder: Path, step: int) -> Path:
    """Where the state after `step` steps is kept."""
    return folder / f"state-{step:06d}.pt"


def forget_old(folder: Path) -> None:
    """Remove all but the last two states, and partial files left by a killed process."""
    for path in (*states(folder)[:-KEPT], *folder.glob(".state-*.pt")):
        path.unlink()
