"""The configuration of a training run, in parts by the module that uses them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from maquette.errors import MaquetteError, shortened
from maquette.foundation.declared import REQUIRED, Setting, When, setting, settings_of
from maquette.foundation.files import atomic_write
from maquette.foundation.flags import Given, flag
from maquette.foundation.reading.documents import read_json, read_toml
from maquette.foundation.settings import FilePrediction
from maquette.training.legacy import modern
from maquette.training.parts import DataConfig, HardwareConfig, ModelConfig, MonitorConfig, OptimizerConfig
from maquette.training.validation import problems_of

CONFIG = "training.json"
STATES = "states"  # folder of the ControlNets that are kept on the way, by their step
PARTS = {
    "data": DataConfig,
    "model": ModelConfig,
    "optimizer": OptimizerConfig,
    "monitor": MonitorConfig,
    "hardware": HardwareConfig,
}


@dataclass(frozen=True, init=False)
class TrainingConfig:
    """Configuration of a ControlNet training; the defaults train on the diorama in 15 minutes on two CPU cores.

    Pass settings by name, `TrainingConfig(condition="canny", output="runs/canny", learning_rate=3e-4)`, or by
    part, `optimizer={"learning_rate": 3e-4}` or `optimizer=OptimizerConfig(learning_rate=3e-4)`.

    Raises `MaquetteError` that lists every invalid setting.
    """

    condition: str = setting(
        REQUIRED,
        "The control signal: canny, depth, normal, pose, scribble or segmentation; with custom data, any name.",
    )
    output: Path = setting(REQUIRED, "Folder of the run.", may_differ=True)
    base: str = setting("diorama", "The frozen base model: a name, folder, file or Hub id.")
    prediction: FilePrediction | None = setting(
        None, "What the base predicts, if it is a single file that does not say it (SD 2.x)."
    )
    max_steps: int = setting(
        1000,
        "Optimizer steps; all other settings in steps count these too.",
        1,
        10**12,
        may_differ=When(  # with cosine decay, the last step determines every learning rate
            "with a constant learning rate", lambda config: config.optimizer.decay == "constant"
        ),
    )
    checkpoint_every: int = setting(250, "Steps between checkpoints; the last two are kept.", 1, may_differ=True)
    seed: int = setting(0, "Seed of all randomness in the run.", 0, 2**63 - 1)
    resume: bool = setting(False, "Resume from the last checkpoint in `output`.", may_differ=True)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)

    def __init__(self, given: Given | None = None, /, **settings: Any) -> None:
        given = Given.of(TrainingConfig, settings) if given is None else given
        known = settings_of(TrainingConfig)
        values = _checked(given, known)
        for name, part in PARTS.items():
            chosen = {declared.name: values[flat] for flat, declared in known.items() if declared.part == name}
            object.__setattr__(self, name, part(**chosen))
        for flat, declared in known.items():
            if declared.part is None:
                object.__setattr__(self, flat, declared.read(values[flat]))

    @staticmethod
    def of(settings: Mapping[str, Any], typed: Mapping[str, str] | None = None) -> "TrainingConfig":
        """A configuration from a mapping of settings, as read from a file.

        Args:
            typed: how the user spelled a setting, if not by its name (`--batch-size`).

        Raises `MaquetteError` that lists every invalid setting.
        """
        return TrainingConfig(Given.of(TrainingConfig, settings, typed))

    def items(self) -> Iterator[tuple[Setting, Any]]:
        """Each setting and its value."""
        for declared in settings_of(TrainingConfig).values():
            yield declared, getattr(getattr(self, declared.part) if declared.part else self, declared.name)

    def save(self, path: Path) -> None:
        """Write the configuration as JSON."""
        settings = {**asdict(self), "resume": False}
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=2, default=str) + "\n")

    @staticmethod
    def load(path: Path) -> "TrainingConfig":
        """The configuration saved with a run.

        Raises `MaquetteError` if the file is missing or invalid.
        """
        if not path.is_file():
            raise MaquetteError(f"There is no training in {str(path.parent)!r}: it has no {path.name}.")
        return TrainingConfig.of({**read_settings(path), "output": path.parent})


def read_settings(path: Path) -> dict[str, Any]:
    """Settings by name and table from a TOML file or a run's `training.json`.

    Raises `MaquetteError` if the file is neither.
    """
    try:
        settings = read_toml(path) if path.suffix == ".toml" else read_json(path)
    except (OSError, ValueError) as error:  # of the file, TOML, JSON or UTF-8
        raise MaquetteError(f"{str(path)!r} is neither TOML nor a run's training.json ({error}).") from error
    if not isinstance(settings, dict):
        raise MaquetteError(f"{str(path)!r} is not a table of named settings.")
    return modern(settings, settings_of(TrainingConfig), path)


def _checked(given: Given, known: Mapping[str, Setting]) -> dict[str, Any]:
    """All settings by flat name: the given ones in order, then the defaults."""
    missing = given.missing(TrainingConfig)
    defaults = {flat: s.default for flat, s in known.items() if flat not in given.values and flat not in missing}
    values = {**given.values, **defaults}
    problems = [*given.problems, *(f"{flat} is missing (on the command line {flag(known[flat])})" for flat in missing)]
    problems += [f"{given.typed.get(flat, flat)} {problem}" for flat, problem in problems_of(values, known)]
    if problems:
        raise MaquetteError("This training cannot run: " + "; ".join(shortened(one, 300) for one in problems) + ".")
    return values
