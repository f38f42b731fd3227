"""Measurements sent elsewhere too: TensorBoard, and whatever else accelerate knows."""

from dataclasses import asdict, dataclass
from typing import Any

from maquette.errors import MaquetteError
from maquette.training.config import TrainingConfig
from maquette.training.processes import Processes


@dataclass(frozen=True)
class Tracker:
    tracker: Any  # of accelerate; None for nowhere

    @staticmethod
    def open(config: TrainingConfig, processes: Processes) -> "Tracker":
        """The tracker that the settings name, in the first process."""
        if config.track is None or not processes.is_first:
            return Tracker(None)
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        kind = LOGGER_TYPE_TO_CLASS[config.track]
        where = {"logging_dir": str(config.output)} if kind.requires_logging_directory else {}
        tracker = kind(config.output.name, **where)
        tracker.start()
        tracker.store_init_configuration({name: _plain(value) for name, value in asdict(config).items()})
        return Tracker(tracker)

    def log(self, step: int, values: dict[str, float]) -> None:
        if self.tracker is not None:
            self.tracker.log(values, step=step)

    def close(self) -> None:
        if self.tracker is not None:
            self.tracker.finish()


def check_tracker(config: TrainingConfig) -> None:
    """Raises `MaquetteError` where the tracker that the settings name is unknown, or not installed."""
    if config.track is None:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, filter_trackers

    if config.track not in LOGGER_TYPE_TO_CLASS:
        raise MaquetteError(f"track is one of {', '.join(map(str, LOGGER_TYPE_TO_CLASS))}, not {config.track!r}.")
    if not filter_trackers([config.track], str(config.output)):
        raise MaquetteError(f"{config.track!r} is not installed: pip install {config.track}, or leave out track.")


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool) else str(value)
