"""What a training run is made of."""

import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from maquette.controlnet.encoder import EncoderName
from maquette.controlnet.network import Connect, Kind
from maquette.data.diorama import CONDITIONS
from maquette.errors import MaquetteError
from maquette.foundation.files import written_whole
from maquette.foundation.registry import unknown

Decay = Literal["constant", "cosine"]


@dataclass(frozen=True)
class TrainingConfig:
    """One training of a ControlNet; the defaults fit the diorama on two CPU cores in a quarter of an hour."""

    condition: str  # what steers: canny, depth, normal, pose, scribble or segmentation
    output: Path  # the run's folder
    base: str = "diorama"  # the locked model
    scenes: int = 8000  # pairs: so many rendered scenes
    max_steps: int = 1000  # optimiser steps
    batch_size: int = 32  # pictures a step
    learning_rate: float = 1e-3  # peak; this narrow base wants far more than Stable Diffusion's 1e-5
    decay: Decay = "constant"  # of the learning rate; or "cosine", to 0 at the last step
    warmup: int = 50  # optimiser steps up to the peak
    weight_decay: float = 1e-2
    clip: float = 1.0  # largest norm of the gradient
    prompt_drop: float = 0.5  # share of the prompts replaced by the empty one (v3 §3.3)
    encoder: EncoderName = "release"  # layout of the condition encoder
    connect: Connect = "all"  # or "middle": the middle block's residual alone
    kind: Kind = "zero"  # or the ablations "gaussian" and "lite"
    seed: int = 0
    evaluate_every: int = 100  # optimiser steps between two measurements of fidelity, 0 for none
    evaluate_scenes: int = 16  # held-out conditions
    checkpoint_every: int = 250  # optimiser steps between two saved states
    device: str = "cpu"
    bfloat16: bool = True  # matrix work in bfloat16; the weights stay float32
    resume: bool = False  # go on from the state in `output`

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", Path(self.output))
        object.__setattr__(self, "base", str(self.base))
        _refuse(list(_problems(vars(self))))

    @staticmethod
    def of(settings: Mapping[str, Any]) -> "TrainingConfig":
        """From settings by name, as a file or a command line has them; all that is wrong with them is said at once."""
        known = {field.name: field for field in fields(TrainingConfig)}
        problems = [unknown("setting", name, list(known)).rstrip(".") for name in settings if name not in known]
        problems += [
            f"{name} is missing" for name, field in known.items() if field.default is MISSING and name not in settings
        ]
        given = {name: value for name, value in settings.items() if name in known}
        defaults = {name: field.default for name, field in known.items() if field.default is not MISSING}
        _refuse([*problems, *_problems({**defaults, **given})])
        return TrainingConfig(**given)

    def save(self, path: Path) -> None:
        with written_whole(path) as temporary:
            settings = {**asdict(self), "output": str(self.output), "resume": False}
            temporary.write_text(json.dumps(settings, indent=2) + "\n")

    @staticmethod
    def load(path: Path) -> "TrainingConfig":
        """The configuration that a run kept."""
        if not path.is_file():
            raise MaquetteError(f"There is no training in {str(path.parent)!r}: it has no {path.name}.")
        return TrainingConfig.of({**read_settings(path), "output": path.parent})


def read_settings(path: Path) -> dict[str, Any]:
    """Settings by name out of a TOML file, or of the JSON that a run keeps."""
    try:
        words = path.read_text("utf-8")
        settings = tomllib.loads(words) if path.suffix == ".toml" else json.loads(words)
    except ValueError as error:  # of TOML, of JSON, or of UTF-8
        raise MaquetteError(f"{str(path)!r} is neither TOML nor a run's training.json ({error}).") from error
    if not isinstance(settings, dict):
        raise MaquetteError(f"{str(path)!r} holds no settings by name.")
    return settings


def _refuse(problems: list[str]) -> None:
    if problems:
        raise MaquetteError("This training cannot run: " + "; ".join(problems) + ".")


def _problems(given: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with settings, each by its name; some may be missing."""
    least = dict.fromkeys(("scenes", "max_steps", "batch_size", "evaluate_scenes", "checkpoint_every"), 1)
    for name, lowest in {**least, "warmup": 0, "evaluate_every": 0, "seed": 0}.items():
        value = given[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
            yield f"{name} is a whole number of {lowest} or more, not {value!r}"
    for name in ("learning_rate", "clip", "weight_decay", "prompt_drop"):
        value = given[name]
        if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            yield f"{name} is a number of 0 or more, not {value!r}"
        elif value == 0 and name in ("learning_rate", "clip"):
            yield f"{name} is above 0"
        elif value > 1 and name == "prompt_drop":
            yield f"prompt_drop is a share from 0 to 1, not {value}"
    for name in ("bfloat16", "resume"):
        if not isinstance(given[name], bool):
            yield f"{name} is true or false, not {given[name]!r}"
    choices: dict[str, Any] = {"decay": Decay, "encoder": EncoderName, "connect": Connect, "kind": Kind}
    for name, known in {**{name: get_args(kind) for name, kind in choices.items()}, "condition": CONDITIONS}.items():
        if name in given and given[name] not in known:
            yield unknown(name, given[name], list(known)).rstrip(".")
