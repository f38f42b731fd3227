"""A training as its folder tells of it, whoever runs it: no process needs to be asked."""

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from maquette.controlnet.save import CONFIG as NET_CONFIG
from maquette.controlnet.save import WEIGHTS
from maquette.errors import MaquetteError
from maquette.foundation.files import holder
from maquette.foundation.reading.files import open_regular, read_bytes
from maquette.foundation.reading.pictures import opened_picture
from maquette.training.config import CONFIG, STATES, TrainingConfig
from maquette.training.monitor.metrics_log import METRICS, Line, Log

State = Literal["running", "stopped", "finished"]
PRINTED = "train.log"  # what the command printed
TAIL = 8192  # bytes of it that are read
PACE = 8  # lines of the metrics that the time left is told by
LARGEST = 2**27  # bytes of a grid
_FAILURE = re.compile(r"(?:maquette|[\w.]*(?:Error|Exception)): (.+)")


@dataclass(frozen=True)
class Training:
    """A training at a moment.

    Args:
        folder: of the run.
        state: "running" as long as a process holds the folder, or was just started for it; "finished" once the
            ControlNet is written, until the training goes on to a later step.
        config: None before the run has written it.
    """

    folder: Path
    state: State
    config: TrainingConfig | None

    @staticmethod
    def read(folder: Path, started: bool = False) -> "Training":
        """Read a folder.

        Args:
            started: whether a process is known to be on its way, which does not hold the folder yet.
        """
        try:
            config = TrainingConfig.load(folder / CONFIG)
        except MaquetteError:  # it has none yet, or was written by another version
            config = None
        done = config is not None and (folder / WEIGHTS).is_file() and not _is_behind(folder, config)
        state: State = "running" if started or holder(folder) else "finished" if done else "stopped"
        return Training(folder, state, config)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def log(self) -> Log:
        """Its metrics."""
        return Log(self.folder, self.config.condition if self.config else "")

    @property
    def stamp(self) -> tuple[int, int, str]:
        """Changes whenever there is something new to see."""
        return _changed(self.folder / METRICS), _changed(self.folder / PRINTED), self.state

    def grids(self) -> list[Path]:
        """The pictures of its measurements, the oldest first."""
        return sorted((self.folder / "grids").glob("step-*.png"))

    def states(self) -> dict[int, Path]:
        """The ControlNets that were kept on its way, by their steps."""
        found = {int(path.name): path for path in (self.folder / STATES).glob("*") if path.name.isdecimal()}
        return {steps: path for steps, path in sorted(found.items()) if (path / NET_CONFIG).is_file()}

    def net_on(self, base: str) -> tuple[str, str]:
        """The name of its ControlNet for `load_controlnet`, and the condition.

        Raises `MaquetteError` before it is written, and if it was trained on another base.
        """
        config = self.config
        if self.state != "finished" or config is None:
            raise MaquetteError(f"The training {self.name!r} has not written its ControlNet yet; it does at its end.")
        if config.base != base or config.model.unlock is not None:
            trained = self.folder / "base" if config.model.unlock else config.base
            raise MaquetteError(
                f"The ControlNet of {self.name!r} needs the base it was trained on: maquette ui --base {trained} "
                f"--controlnet {config.condition}={self.folder}"
            )
        return str(self.folder), config.condition

    @property
    def printed(self) -> str:
        """The last line that the command printed: how far it has prepared, or why it ended."""
        try:
            with open_regular(self.folder / PRINTED) as stream:
                stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL))
                text = stream.read(TAIL).decode("utf-8", "replace")
        except OSError:  # it was started by hand
            return ""
        lines = [line.strip() for line in re.split(r"[\r\n]", text)]
        return next((line for line in reversed(lines) if line), "")

    @property
    def failure(self) -> str:
        """Why it ended, if that was an error, in the words of the command."""
        found = _FAILURE.match(self.printed) if self.state == "stopped" else None
        return found[1] if found else ""


def seconds_left(lines: list[Line], last: int) -> float | None:
    """The seconds until step `last`, by the pace of the latest lines of the metrics; None before there is one."""
    if len(lines) < 2 or lines[-1]["step"] >= last:
        return None
    first, now = lines[-PACE:][0], lines[-1]
    steps = now["step"] - first["step"]
    return (now["seconds"] - first["seconds"]) / steps * (last - now["step"]) if steps > 0 else None


def grid(path: Path) -> Image.Image | None:
    """A picture of a measurement; None for one that is damaged."""
    try:
        with opened_picture(io.BytesIO(read_bytes(path, LARGEST)), path.name) as image:
            return image.convert("RGB")
    except (MaquetteError, OSError):
        return None


def _is_behind(folder: Path, config: TrainingConfig) -> bool:
    """Whether a training that was finished once has steps left, because it went on and was stopped."""
    lines = Log(folder, config.condition).lines()
    return config.monitor.stop_after is None and bool(lines) and lines[-1]["step"] < config.max_steps


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0
