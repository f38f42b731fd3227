"""The settings of a training, by the room that uses them; each is told here, once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from maquette.controlnet.choices import Connect, EncoderName, Variant
from maquette.data.crop import STEP, Crop
from maquette.foundation.declared import Declared, setting
from maquette.foundation.settings import problem

Decay = Literal["constant", "cosine"]
Precision = Literal["bfloat16", "float16", "float32"]
Optimizer = Literal["adamw", "adamw8bit"]
Unlock = Literal["decoder", "all"]


def _size(value: Any) -> str | None:
    pair = list(value) if isinstance(value, list | tuple) and len(value) == 2 else [value]
    if value is not None and any(problem(side, int, STEP) for side in pair):
        return f"is a whole number of {STEP} or more, or two, not {value!r}"
    return f"is a multiple of {STEP} pixels, not {value!r}" if value and any(side % STEP for side in pair) else None


@dataclass(frozen=True)
class DataConfig(Declared):
    """Pairs, and how batches are drawn of them."""

    source: str | None = setting(
        None,
        "A folder, Parquet files, tar shards or a Hub data set; without, rendered scenes of the diorama.",
        flat="data",
    )
    scenes: int = setting(8000, "Pairs of the diorama: so many rendered scenes.", 1)
    batch_size: int = setting(32, "Images a step, over all processes and parts.", 1)
    image_column: str | None = setting(
        None, "What the images' column is called, where it is not called as usual.", needs="data"
    )
    condition_column: str | None = setting(None, "The same of the conditions' column.", needs="data")
    text_column: str | None = setting(None, "The same of the texts' column.", needs="data")
    detect: bool = setting(
        False,
        "Draw the conditions from the images, by the detector that `condition` names, its parameters by chance.",
        needs="data",
    )
    size: int | tuple[int, int] | None = setting(
        None,
        "Width and height of what the model sees, pixels; one number for both; the base's own without.",
        check=_size,
        allowed="multiples of 64",
        needs="data",
    )
    buckets: bool = setting(
        False,
        "Frames of several shapes and about that area, each image in the one that cuts least of it.",
        needs="data",
    )
    crop: Crop = setting(
        "centre",
        "Where an image is cut that does not fit its frame: in the centre, or at random, afresh every time.",
        needs="data",
    )
    flip: float = setting(
        0.0, "Share of the pairs that are mirrored; not for conditions that know left from right.", 0, 1, needs="data"
    )
    categorical: bool = setting(False, "Conditions are class maps, whose colours are never mixed.", needs="data")
    prompt_drop: float = setting(0.5, "Share of the prompts replaced by the empty one (v3 §3.3).", 0, 1)
    condition_drop: float = setting(0.0, "Share of the condition maps replaced by black.", 0, 1)
    broken: float = setting(
        0.05,
        "Share of the rows that may be unreadable before the run stops; others stand in for them.",
        0,
        1,
        needs="data",
    )
    shuffle_window: int = setting(
        10_000, "Rows: how far one of a tar shard may move in an epoch's order.", 1, needs="data"
    )
    cache: bool = setting(
        True,
        "Keep the latents' posteriors and the texts' features on disk, for this run and others.",
        may_differ=True,
    )
    cache_folder: Path = setting(
        Path("runs/cache"), "Where that is kept; on a disk of this machine.", needs="cache", may_differ=True
    )
    workers: int = setting(
        0, "Processes that read and draw pairs ahead; 0: the training's own does it.", 0, may_differ=True
    )

    @property
    def frame(self) -> tuple[int, int] | None:
        """Width and height of `size`."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


@dataclass(frozen=True)
class ModelConfig(Declared):
    """The ControlNet, and what of it and of the base trains when."""

    start_from: str | None = setting(None, "A trained ControlNet to go on from, in place of a fresh one.")
    encoder: EncoderName = setting("release", "Layout of the condition encoder.")
    connect: Connect = setting("all", "Or \"middle\": the middle block's residual alone (v1's small-scale training).")
    variant: Variant = setting("zero", 'Or the ablations "gaussian" and "lite".')
    reconnect: int | Literal["converged"] | None = setting(
        None,
        'The step from which all residuals are used after "middle", or when the condition has taken hold.',
        1,
    )
    unlock: Unlock | None = setting(
        None,
        "Train the base's decoder, or all of it, too (v1's large-scale training); it is saved beside the ControlNet.",
    )
    unlock_at: int = setting(0, "The step from which it is unlocked.", 0, needs="unlock")


@dataclass(frozen=True)
class OptimizerConfig(Declared):
    """The loss and the steps down its gradient."""

    learning_rate: float = setting(1e-3, "Peak; this narrow base wants far more than Stable Diffusion's 1e-5.", above=0)
    decay: Decay = setting("constant", 'Of the learning rate; or "cosine", to 0 at the last step.')
    warmup: int = setting(50, "Steps up to the peak.", 0)
    name: Optimizer = setting(
        "adamw", 'Or "adamw8bit", with a quarter of its memory, by bitsandbytes.', flat="optimizer_name"
    )
    weight_decay: float = setting(1e-2, "Of AdamW.", 0)
    clip: float = setting(1.0, "Largest norm of the gradient.", above=0)
    ema: float = setting(
        0.0,
        "Decay of a running average of the ControlNet's weights, which is measured and saved in their place; 0: none.",
        0,
        below=1,
    )
    min_snr: float = setting(
        0.0,
        "γ of min-SNR weighting of the loss (Hang et al. 2023, eq. 7), 5 there; 0: every timestep weighs the same.",
        0,
    )
    unlock_learning_rate: float = setting(2e-6, "Of the base's own weights.", above=0, needs="unlock")


@dataclass(frozen=True)
class MonitorConfig(Declared):
    """What is measured on held-out pairs, and what follows from it."""

    evaluate_every: int = setting(100, "Steps between two measurements of gain and fidelity; 0: none.", 0)
    held_out: int = setting(16, "Pairs that are measured and never trained on.", 1, needs="evaluate_every")
    stop_after: int | None = setting(
        None, "Stop so many steps after the condition has taken hold; without, at `max_steps`.", 0
    )
    keep_best: bool = setting(False, "End with the weights that measured best, in place of the last.")
    track: str | None = setting(
        None,
        "Where else measurements go: tensorboard, wandb and others that accelerate knows.",
        may_differ=True,
    )


@dataclass(frozen=True)
class HardwareConfig(Declared):
    """Where and how it is computed."""

    device: str = setting(
        "cpu", "As torch names devices; of several processes on cuda, each takes a card.", may_differ=True
    )
    precision: Precision = setting(
        "bfloat16", "Of matrix work and of the locked weights; those that train stay float32."
    )
    accumulation: int = setting(
        1,
        "Parts in which a process computes its share of a step, one after another: less memory, the same result.",
        1,
        may_differ=True,
    )
    gradient_checkpointing: bool = setting(
        False,
        "Compute activations again in the backward pass: far less memory, about a third more time.",
        may_differ=True,
    )
    compile: bool = setting(False, "By torch.compile: a slow first step, faster ones after it.", may_differ=True)
    shard: bool = setting(
        False, "Split the trained weights and the optimizer's state over the processes (FSDP).", may_differ=True
    )
