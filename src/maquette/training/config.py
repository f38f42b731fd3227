"""What a training run is made of."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from maquette.controlnet.encoder import EncoderName
from maquette.controlnet.network import Connect, Variant
from maquette.data.framing import Crop
from maquette.errors import MaquetteError
from maquette.foundation.files import written_whole
from maquette.foundation.registry import unknown
from maquette.training.problems import problems_of

CONFIG = "training.json"

Decay = Literal["constant", "cosine"]
Precision = Literal["bfloat16", "float16", "float32"]
Optimiser = Literal["adamw", "adamw8bit"]
Unlock = Literal["decoder", "all"]


@dataclass(frozen=True)
class TrainingConfig:
    """One training of a ControlNet; the defaults fit the diorama on two CPU cores in a quarter of an hour."""

    condition: str
    """What steers: canny, depth, normal, pose, scribble or segmentation; with data of one's own, any word."""
    output: Path
    """The run's folder."""
    base: str = "diorama"
    """The locked model: a name, a folder, a file or a Hub id."""
    start_from: str | None = None
    """A trained ControlNet to go on from, in place of a fresh one."""

    # Pairs
    data: str | None = None
    """A folder, Parquet files, tar shards or a Hub data set; without, rendered scenes of the diorama."""
    scenes: int = 8000
    """Pairs of the diorama: so many rendered scenes."""
    picture_column: str | None = None
    """What the pictures' column is called, where it is not called as usual."""
    condition_column: str | None = None
    """The same of the conditions' column."""
    text_column: str | None = None
    """The same of the texts' column."""
    detect: bool = False
    """Draw the conditions from the pictures, by the detector that `condition` names, its parameters by chance."""
    size: int | tuple[int, int] | None = None
    """Width and height of what the model sees, pixels; one number for both; the base's own without."""
    buckets: bool = False
    """Frames of several shapes and about that area, each picture in the one that cuts least of it."""
    crop: Crop = "centre"
    """Where a picture is cut that does not fit its frame: in the centre, or at random, afresh every time."""
    flip: float = 0.0
    """Share of the pairs that are mirrored; not for conditions that know left from right."""
    categorical: bool = False
    """Conditions are class maps, whose colours are never mixed."""
    broken: float = 0.05
    """Share of the rows that may be unreadable before the run stops; others stand in for them."""
    shuffle_window: int = 10_000
    """Rows: how far one of a tar shard may move in an epoch's order."""
    cache: bool = True
    """Keep the latents' posteriors and the texts' features on disk, for this run and others."""
    cache_folder: Path = Path("runs/cache")
    """Where that is kept; on a disk of this machine."""
    workers: int = 0
    """Processes that read and draw pairs ahead; 0: the training's own does it."""

    # Steps: always of the optimiser
    max_steps: int = 1000
    """Steps of the optimiser, as all that is counted in steps."""
    batch_size: int = 32
    """Pictures a step, over all processes and parts."""
    accumulation: int = 1
    """Parts in which a process computes its share of a step, one after another: less memory, the same result."""
    learning_rate: float = 1e-3
    """Peak; this narrow base wants far more than Stable Diffusion's 1e-5."""
    decay: Decay = "constant"
    """Of the learning rate; or "cosine", to 0 at the last step."""
    warmup: int = 50
    """Steps up to the peak."""
    optimiser: Optimiser = "adamw"
    """Or "adamw8bit", with a quarter of its memory, by bitsandbytes."""
    weight_decay: float = 1e-2
    """Of AdamW."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.0
    """Decay of a running average of the ControlNet's weights, which is measured and saved in their place; 0: none."""
    min_snr: float = 0.0
    """γ of min-SNR weighting of the loss (Hang et al. 2023, eq. 7), 5 there; 0: every timestep weighs the same."""
    prompt_drop: float = 0.5
    """Share of the prompts replaced by the empty one (v3 §3.3)."""
    condition_drop: float = 0.0
    """Share of the condition maps replaced by black."""

    # The ControlNet and its regimes
    encoder: EncoderName = "release"
    """Layout of the condition encoder."""
    connect: Connect = "all"
    """Or "middle": the middle block's residual alone (v1's small-scale training)."""
    kind: Variant = "zero"
    """Or the ablations "gaussian" and "lite"."""
    reconnect: int | Literal["converged"] | None = None
    """The step from which all residuals are used after "middle", or when the condition has taken hold."""
    unlock: Unlock | None = None
    """Train the base's decoder, or all of it, too (v1's large-scale training); it is saved beside the ControlNet."""
    unlock_at: int = 0
    """The step from which it is unlocked."""
    unlock_learning_rate: float = 2e-6
    """Of the base's own weights."""

    # Measuring
    evaluate_every: int = 100
    """Steps between two measurements of gain and fidelity; 0: none."""
    held_out: int = 16
    """Pairs that are measured and never trained on."""
    stop_after: int | None = None
    """Stop so many steps after the condition has taken hold; without, at `max_steps`."""
    keep_best: bool = False
    """End with the weights that measured best, in place of the last."""
    track: str | None = None
    """Where else measurements go: tensorboard, wandb and others that accelerate knows."""
    checkpoint_every: int = 250
    """Steps between two saved states; the last two are kept."""

    # The machine
    device: str = "cpu"
    """As torch names devices; of several processes on cuda, each takes a card."""
    precision: Precision = "bfloat16"
    """Of matrix work and of the locked weights; those that train stay float32."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: far less memory, about a third more time."""
    compile: bool = False
    """By torch.compile: a slow first step, faster ones after it."""
    shard: bool = False
    """Split the trained weights and the optimiser's state over the processes (FSDP)."""
    seed: int = 0
    """Decides all chance of the run."""
    resume: bool = False
    """Go on from the last state in `output`."""

    def __post_init__(self) -> None:
        for name in ("output", "cache_folder"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, Path(getattr(self, name)))
        for name in ("base", "data", "start_from"):
            if isinstance(getattr(self, name), Path):
                object.__setattr__(self, name, str(getattr(self, name)))
        if isinstance(self.size, list):
            object.__setattr__(self, "size", tuple(self.size))
        _refuse([f"{name} {words}" for name, words in problems_of(vars(self), TrainingConfig)])

    @staticmethod
    def of(settings: Mapping[str, Any], flags: Mapping[str, str] | None = None) -> "TrainingConfig":
        """From settings by name, as a file or a command line has them; all that is wrong with them is said at once.

        Args:
            flags: what the user typed for a setting, where that is not its name.
        """
        known = {field.name: field for field in fields(TrainingConfig)}
        problems = [unknown("setting", name, list(known)).rstrip(".") for name in settings if name not in known]
        problems += [
            f"{name} is missing" for name, field in known.items() if field.default is MISSING and name not in settings
        ]
        given = {name: value for name, value in settings.items() if name in known}
        defaults = {name: field.default for name, field in known.items() if field.default is not MISSING}
        found = problems_of({**defaults, **given}, TrainingConfig)
        _refuse([*problems, *(f"{(flags or {}).get(name, name)} {words}" for name, words in found)])
        return TrainingConfig(**given)

    @property
    def frame(self) -> tuple[int, int] | None:
        """Width and height of `size`."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def save(self, path: Path) -> None:
        settings = {**asdict(self), "resume": False}
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=2, default=str) + "\n")

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
