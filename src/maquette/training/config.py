"""What a training run is made of: settings in parts, by the room that uses them."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from maquette.errors import MaquetteError
from maquette.foundation.declared import REQUIRED, Setting, When, setting, settings_of
from maquette.foundation.files import atomic_write
from maquette.foundation.given import Given
from maquette.training.legacy import modern
from maquette.training.parts import DataConfig, HardwareConfig, ModelConfig, MonitorConfig, OptimizerConfig
from maquette.training.validation import problems_of

CONFIG = "training.json"
PARTS = {
    "data": DataConfig,
    "model": ModelConfig,
    "optimizer": OptimizerConfig,
    "monitor": MonitorConfig,
    "hardware": HardwareConfig,
}


@dataclass(frozen=True, init=False)
class TrainingConfig:
    """One training of a ControlNet; the defaults fit the diorama on two CPU cores in a quarter of an hour.

    Settings are given by name, `TrainingConfig(condition="canny", output="runs/canny", learning_rate=3e-4)`, or in
    parts, `optimizer={"learning_rate": 3e-4}` or `optimizer=OptimizerConfig(learning_rate=3e-4)`.

    Raises `MaquetteError` with all that is wrong with them at once.
    """

    condition: str = setting(
        REQUIRED,
        "What steers: canny, depth, normal, pose, scribble or segmentation; with data of one's own, any word.",
    )
    output: Path = setting(REQUIRED, "The run's folder.", may_differ=True)
    base: str = setting("diorama", "The locked model: a name, a folder, a file or a Hub id.")
    max_steps: int = setting(
        1000,
        "Steps of the optimizer, as all that is counted in steps.",
        1,
        may_differ=When(  # under a cosine, the last step decides every learning rate
            "at a constant learning rate", lambda config: config.optimizer.decay == "constant"
        ),
    )
    checkpoint_every: int = setting(250, "Steps between two saved states; the last two are kept.", 1, may_differ=True)
    seed: int = setting(0, "Decides all chance of the run.", 0)
    resume: bool = setting(False, "Go on from the last state in `output`.", may_differ=True)
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
            own = {one.name: values[flat] for flat, one in known.items() if one.part == name}
            object.__setattr__(self, name, part(**own))
        for flat, one in known.items():
            if one.part is None:
                object.__setattr__(self, flat, one.read(values[flat]))

    @staticmethod
    def of(settings: Mapping[str, Any], typed: Mapping[str, str] | None = None) -> "TrainingConfig":
        """From settings by name, as a file has them.

        Args:
            typed: what the user typed for a setting, where that is not its name.
        """
        return TrainingConfig(Given.of(TrainingConfig, settings, typed))

    def items(self) -> Iterator[tuple[Setting, Any]]:
        """Each setting and its value."""
        for one in settings_of(TrainingConfig).values():
            yield one, getattr(getattr(self, one.part) if one.part else self, one.name)

    def save(self, path: Path) -> None:
        settings = {**asdict(self), "resume": False}
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=2, default=str) + "\n")

    @staticmethod
    def load(path: Path) -> "TrainingConfig":
        """The configuration that a run kept."""
        if not path.is_file():
            raise MaquetteError(f"There is no training in {str(path.parent)!r}: it has no {path.name}.")
        return TrainingConfig.of({**read_settings(path), "output": path.parent})


def read_settings(path: Path) -> dict[str, Any]:
    """Settings by name and table out of a TOML file, or of the JSON that a run keeps."""
    try:
        words = path.read_text("utf-8")
        settings = tomllib.loads(words) if path.suffix == ".toml" else json.loads(words)
    except ValueError as error:  # of TOML, of JSON, or of UTF-8
        raise MaquetteError(f"{str(path)!r} is neither TOML nor a run's training.json ({error}).") from error
    if not isinstance(settings, dict):
        raise MaquetteError(f"{str(path)!r} holds no settings by name.")
    return modern(settings, settings_of(TrainingConfig), path)


def _checked(given: Given, known: Mapping[str, Setting]) -> dict[str, Any]:
    """All settings by flat name: those given, in their order, then defaults."""
    missing = given.missing(TrainingConfig)
    left = {flat: one.default for flat, one in known.items() if flat not in given.values and flat not in missing}
    values = {**given.values, **left}
    problems = [*given.problems, *(f"{flat} is missing" for flat in missing)]
    problems += [f"{given.typed.get(flat, flat)} {words}" for flat, words in problems_of(values, known)]
    if problems:
        raise MaquetteError("This training cannot run: " + "; ".join(problems) + ".")
    return values
