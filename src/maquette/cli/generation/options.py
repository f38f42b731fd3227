"""The options of `maquette generate` that take one value, in the tables that its help shows."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

from maquette.foundation.declared import Declared, Setting, setting, settings_of
from maquette.foundation.settings import FilePrediction, Fit


@dataclass(frozen=True)
class PromptOptions(Declared):
    """What to show."""

    prompt: str = setting("", "What to show.")
    prompts: Path | None = setting(None, "A text file with one prompt a line, instead of --prompt.")
    prompt_mode: Literal["user", "none", "default", "auto"] = setting(
        "user", "user: --prompt; none: no prompt; default: a general one; auto: a caption of what default generates."
    )
    negative_prompt: str = setting("", "What not to show.")


@dataclass(frozen=True)
class ControlOptions(Declared):
    """The only control; several are given with --control."""

    condition: str = setting("canny", "The condition to extract from IMAGE: a detector's name; or any, with --map.")
    controlnet: str | None = setting(None, "A folder, file or name on the Hub; default: the bundled one.")
    is_map: bool = setting(False, "IMAGE is already a condition map.", flat="map")
    paint: Path | None = setting(None, "Paint IMAGE in where this mask is white, with a ControlNet for that.")
    weight: float = setting(1.0, "Factor on the control.")
    start: float = setting(0.0, "Fraction of the steps at which the control starts.")
    end: float = setting(1.0, "Fraction of the steps at which the control ends.")


@dataclass(frozen=True)
class StartOptions(Declared):
    """The images that are given."""

    fit: Fit = setting("cut", "How an image of another shape gets the size: cut off, pad with black, or stretch.")
    image: Path | None = setting(None, "A start image, which is changed instead of beginning from noise.")
    strength: float = setting(1.0, "Share of the noise added to the start image: above 0, up to 1.")
    mask: Path | None = setting(None, "White where the start image may change; black or transparent is kept.")
    feather: int | None = setting(None, "Width of the mask's soft edge in pixels; default: one latent cell, such as 8.")


@dataclass(frozen=True)
class SamplingOptions(Declared):
    """How to sample."""

    steps: int | None = setting(None, "Sampling steps; default: the base's, such as 20.")
    guidance: float | None = setting(None, "Classifier-free guidance; default: the base's, such as 9 (diorama: 4).")
    distilled_guidance: float | None = setting(None, "Scale that FLUX.1-dev takes as an input; default: 3.5.")
    sampler: str | None = setting(
        None, "ddim, ddpm, euler, euler-ancestral, heun, dpm++, dpm++-karras, unipc; default: the base's, such as ddim."
    )
    speed: str = setting("exact", "exact; or approximate, balanced or draft: decides the next three, steps, sampler.")
    guidance_interval: str | None = setting(None, "START-END: shares of the steps between which guidance acts.")
    reuse: int | None = setting(None, "Steps for one run of the U-Net's encoder and the ControlNets, 1 to 10.")
    decoder: str | None = setting(None, "full; or tiny: the base's tiny decoder.")
    condition_in: str = setting("both", "Guidance branch: both, conditional or weighted.")
    resolution_weights: str = setting("normalised", "For --condition-in weighted: normalised or literal.")
    seed: str = setting("0", "Image i starts from the noise of seed + i; random: another one every time.")
    seeds: str | None = setting(None, "One image for each, such as 1,2,7, instead of --seed and --count.")
    count: int = setting(1, "Number of images.")
    size: str | None = setting(None, "WIDTHxHEIGHT in pixels; default: the base's size.")


@dataclass(frozen=True)
class ModelOptions(Declared):
    """What computes."""

    base: str = setting("diorama", "Base model: diorama; a folder, a file, or a name on the Hub.")
    prediction: FilePrediction | None = setting(
        None, "What the base predicts, if it is a single file that does not say it (SD 2.x)."
    )
    device: str = setting("auto", "cpu, cuda, mps; auto: the fastest one.")
    dtype: str = setting("auto", "float32, bfloat16, float16; auto: bfloat16 on a GPU that has it, else float32.")
    tiny_decoder: Path | None = setting(None, "Folder of a tiny decoder, such as TAESD's, for drafts.")
    low_memory: bool = setting(False, "Keep only the running part on the device; decode in bands.")


@dataclass(frozen=True)
class OutputOptions(Declared):
    """What is written."""

    overwrite: bool = setting(False, "Replace files that exist already.")
    keep_images: bool = setting(False, "With --sweep: also write each image of the sheet.")


@dataclass(frozen=True)
class AgainOptions(Declared):
    """Generating an image again."""

    again: Path | None = setting(None, "Generate an image again from the record in its file.")
    anyway: bool = setting(False, "With --again: even if weights have changed since, or parts were not recorded.")


@dataclass(frozen=True)
class Options:
    """All of them, by table. Raises `MaquetteError` for a value of the wrong type or out of range."""

    prompt: PromptOptions = field(default_factory=PromptOptions)
    control: ControlOptions = field(default_factory=ControlOptions)
    start: StartOptions = field(default_factory=StartOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    output: OutputOptions = field(default_factory=OutputOptions)
    again: AgainOptions = field(default_factory=AgainOptions)

    @staticmethod
    def read(typed: dict[str, Any]) -> "Options":
        """From the options that were typed, by flat name."""
        hints = get_type_hints(Options)
        tables: dict[str, dict[str, Any]] = {entry.name: {} for entry in fields(Options)}
        for flat, value in typed.items():
            tables[SETTINGS[flat].part or ""][SETTINGS[flat].name] = value
        return Options(**{name: hints[name](**values) for name, values in tables.items()})


SETTINGS: dict[str, Setting] = settings_of(Options)
"""By flat name."""

CONTROL = tuple(flat for flat, item in SETTINGS.items() if item.part == "control")


def flags(names: Sequence[str]) -> str:
    """Options as they are typed."""
    special = {"sources": "the image", "varied": "--set"}
    return ", ".join(special.get(name, f"--{name.replace('_', '-')}") for name in names)
