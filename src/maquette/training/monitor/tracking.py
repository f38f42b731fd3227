"""Metrics sent to TensorBoard, Weights & Biases and the other trackers of accelerate."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.errors import MaquetteError
from maquette.training.distributed.world import World


@dataclass(frozen=True)
class Tracker:
    """A tracker of accelerate, or none."""

    tracker: Any

    @staticmethod
    def open(track: str | None, folder: Path, settings: Mapping[str, Any], world: World) -> "Tracker":
        """Start the named tracker in the main process and log the run's settings."""
        if track is None or not world.is_main:
            return Tracker(None)
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        tracker_class = LOGGER_TYPE_TO_CLASS[track]
        options = {"logging_dir": str(folder)} if tracker_class.requires_logging_directory else {}
        tracker = tracker_class(folder.name, **options)
        tracker.start()
        tracker.store_init_configuration({name: _plain(value) for name, value in settings.items()})
        return Tracker(tracker)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Send metrics."""
        if self.tracker is not None:
            self.tracker.log(values, step=step)

    def close(self) -> None:
        """Finish the tracker."""
        if self.tracker is not None:
            self.tracker.finish()


def check_tracker(track: str | None, folder: Path) -> None:
    """Raises `MaquetteError` if the tracker is unknown or not installed."""
    if track is None:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, filter_trackers

    if track not in LOGGER_TYPE_TO_CLASS:
        raise MaquetteError(f"track is one of {', '.join(map(str, LOGGER_TYPE_TO_CLASS))}, not {track!r}.")
    if not filter_trackers([track], str(folder)):
        raise MaquetteError(f"{track!r} is not installed: pip install {track}, or leave out track.")


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool) else str(value)
