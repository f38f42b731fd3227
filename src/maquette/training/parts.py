"""The settings of a training, grouped by the module that uses them; checks, flags and docs are derived from here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from maquette.conditions.labels import LabelPalette
from maquette.conditions.requirements import kind_of
from maquette.controlnet.choices import Connect, EncoderName, Variant
from maquette.data.crop import STEP, Crop
from maquette.data.random_options import options_problem
from maquette.foundation.declared import Declared, setting
from maquette.foundation.images import MapKind
from maquette.foundation.settings import problem

Decay = Literal["constant", "cosine"]
Precision = Literal["bfloat16", "float16", "float32"]
Optimizer = Literal["adamw", "adamw8bit", "muon"]
Unlock = Literal["decoder", "all"]


def _size(value: Any) -> str | None:
    pair = list(value) if isinstance(value, list | tuple) and len(value) == 2 else [value]
    if value is not None and any(problem(side, int, STEP) for side in pair):
        return f"is a whole number of {STEP} or more, or two, not {value!r}"
    return f"is a multiple of {STEP} pixels, not {value!r}" if value and any(side % STEP for side in pair) else None


@dataclass(frozen=True)
class DataConfig(Declared):
    """The training pairs and how they are batched."""

    source: str | None = setting(
        None,
        "A folder, Parquet files, tar shards or a Hub dataset; by default, rendered scenes of the diorama.",
        flat="data",
    )
    scenes: int = setting(8000, "Number of rendered diorama scenes.", 1)
    batch_size: int = setting(32, "Images per step, over all processes and accumulation parts.", 1)
    image_column: str | None = setting(None, "Name of the image column, if it is not a usual one.", needs="data")
    condition_column: str | None = setting(None, "Name of the condition column, likewise.", needs="data")
    text_column: str | None = setting(None, "Name of the text column, likewise.", needs="data")
    outside: bool = setting(
        False, "Read also images outside of the data set's folder, where its rows name such.", needs="data"
    )
    detect: bool = setting(
        False,
        "Detect the conditions in the images, with the detector that `condition` names and random parameters.",
        needs="data",
    )
    detect_options: dict[str, Any] | None = setting(
        None,
        "Options of that detector, drawn for each image; on the diorama for canny and scribble, instead of their own.",
        check=options_problem,
        allowed="a table of values, uniform(a, b) and choice(a, b, ...)",
    )
    detect_weights: str | None = setting(
        None, "Weights of that detector: a name that `maquette detect --list` shows, a file or a folder."
    )
    detect_device: str = setting(
        "cpu", "A torch device for that detector; other than cpu, it needs workers = 0.", may_differ=True
    )
    size: int | tuple[int, int] | None = setting(
        None,
        "Training resolution in pixels: width and height, or one number for both; by default the base's.",
        check=_size,
        allowed="multiples of 64",
        needs="data",
    )
    buckets: bool = setting(
        False,
        "Aspect ratio buckets of about that area; each image goes into the one that crops it least.",
        needs="data",
    )
    crop: Crop = setting(
        "centre",
        "Where images are cropped: in the centre, or at a new random position each time.",
        needs="data",
    )
    flip: float = setting(
        0.0,
        "Share of pairs flipped horizontally; not for conditions that distinguish left from right.",
        0,
        1,
        needs="data",
    )
    categorical: bool = setting(
        False,
        "Condition maps show classes, so their colours must not be interpolated; those of segmentation always do.",
        needs="data",
    )
    palette: LabelPalette | None = setting(
        None,
        "Condition maps hold class numbers as ADE20K or COCO-Stuff publish them, or the diorama's; they are coloured.",
        needs="data",
    )
    prompt_drop: float = setting(0.5, "Share of prompts replaced by the empty prompt (v3 §3.3).", 0, 1)
    prompt_conflict: float = setting(
        0.0, "Share of the other prompts replaced by one that names other things, so that the map wins over it.", 0, 1
    )
    condition_drop: float = setting(0.0, "Share of condition maps replaced by black.", 0, 1)
    broken: float = setting(
        0.05,
        "Share of unreadable rows above which the run stops; up to it, other rows replace them.",
        0,
        1,
        needs="data",
    )
    shuffle_window: int = setting(
        10_000, "Shuffle window of tar shards, in rows: how far a row may move within an epoch.", 1, needs="data"
    )
    cache: bool = setting(
        True,
        "Cache latent posteriors and text features on disk, for this and other runs.",
        may_differ=True,
    )
    cache_folder: Path = setting(
        Path("runs/cache"), "Folder of the cache; on a local disk.", needs="cache", may_differ=True
    )
    workers: int = setting(
        0, "Worker processes that load pairs ahead; 0 loads them in the training process.", 0, may_differ=True
    )

    @property
    def frame(self) -> tuple[int, int] | None:
        """`size` as (width, height), in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def kind(self, condition: str) -> MapKind:
        """How maps of a condition are resized."""
        return kind_of(condition, self.categorical or self.palette is not None)


@dataclass(frozen=True)
class ModelConfig(Declared):
    """The ControlNet, and which parts of it and of the base are trained when."""

    start_from: str | None = setting(None, "A trained ControlNet to continue from, instead of a new one.")
    encoder: EncoderName = setting("release", "Architecture of the condition encoder.")
    connect: Connect = setting(
        "all", 'Which residuals are used: "all", or "middle" for the middle block only (v1, small-scale training).'
    )
    variant: Variant = setting(
        "zero",
        'Initialization and copy: "zero", the ablations "gaussian" and "lite", or other ways of control, "channels" '
        'and "context" (which-control.md).',
    )
    blocks: int | None = setting(
        None, "The blocks of a transformer that are copied, the first ones; by default half of them.", 1
    )
    reconnect: int | Literal["converged"] | None = setting(
        None,
        'The step from which all residuals are used after "middle", or "converged": once that has settled.',
        1,
    )
    unlock: Unlock | None = setting(
        None,
        "Also train the base's decoder, or all of it (v1, large-scale training); it is saved with the ControlNet.",
    )
    unlock_at: int = setting(0, "The step from which the base is trained.", 0, needs="unlock")


@dataclass(frozen=True)
class OptimizerConfig(Declared):
    """The loss and the optimizer."""

    learning_rate: float | None = setting(
        None,
        "Peak learning rate; by default 1e-5 on a base of 320 channels or more, as Stable Diffusion, else 1e-3.",
        above=0,
    )
    decay: Decay = setting("constant", 'Learning rate decay: "constant", or "cosine" to 0 at the last step.')
    warmup: int = setting(50, "Steps of linear warmup.", 0)
    name: Optimizer = setting(
        "adamw",
        'Optimizer: "adamw"; "adamw8bit" from bitsandbytes, with a quarter of the memory; or "muon", which moves the '
        "matrices of the copy by their momentum made orthogonal (Jordan et al. 2024), and all else by AdamW.",
        flat="optimizer_name",
    )
    weight_decay: float = setting(1e-2, "Weight decay of AdamW.", 0)
    clip: float = setting(1.0, "Maximum gradient norm.", above=0)
    ema: float = setting(
        0.0,
        "Decay of an EMA of the ControlNet's weights, which is evaluated and saved instead of them; 0: none.",
        0,
        below=1,
    )
    min_snr: float = setting(
        0.0,
        "γ of min-SNR loss weighting (Hang et al. 2023, eq. 7; they use 5); 0: equal weights.",
        0,
    )
    unlock_learning_rate: float = setting(2e-6, "Learning rate of the unlocked base.", above=0, needs="unlock")


@dataclass(frozen=True)
class MonitorConfig(Declared):
    """Evaluation on held-out pairs, and what depends on it."""

    evaluate_every: int = setting(100, "Steps between evaluations of gain and fidelity; 0: none.", 0)
    held_out: int = setting(
        16, "Number of pairs to evaluate on, which are never trained on.", 1, needs="evaluate_every"
    )
    stop_after: int | None = setting(
        None, "Stop this many steps after convergence has settled; by default, stop at `max_steps`.", 0
    )
    keep_best: bool = setting(False, "Save the weights with the best score instead of the last ones.")
    keep_every: int = setting(
        0, "Steps between ControlNets that are kept in states/, to see how one was learnt; 0: none.", 0, may_differ=True
    )
    track: str | None = setting(
        None,
        "Where to send metrics too: tensorboard, wandb or another tracker of accelerate.",
        may_differ=True,
    )


@dataclass(frozen=True)
class HardwareConfig(Declared):
    """Device, precision and memory."""

    device: str = setting("cpu", "A torch device; with several processes on cuda, each takes one GPU.", may_differ=True)
    precision: Precision = setting(
        "bfloat16", "Precision of autocast and of the frozen weights; trained weights stay in float32."
    )
    accumulation: int = setting(
        1,
        "Gradient accumulation: parts that a step is split into; less memory, same result.",
        1,
        may_differ=True,
    )
    gradient_checkpointing: bool = setting(
        False,
        "Recompute activations in the backward pass: far less memory, about a third more time.",
        may_differ=True,
    )
    compile: bool = setting(False, "Use torch.compile: a slow first step, then faster ones.", may_differ=True)
    shard: bool = setting(
        False, "Shard the trained weights and optimizer state over the processes (FSDP).", may_differ=True
    )
