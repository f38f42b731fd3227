"""maquette train"""

from pathlib import Path
from typing import Annotated, Any

import typer

from maquette.errors import MaquetteError
from maquette.foundation.declared import settings_of
from maquette.foundation.flags import flag, read_flags, with_flags
from maquette.foundation.given import Given
from maquette.foundation.settings import read_named
from maquette.training.config import CONFIG, TrainingConfig, read_settings

EXAMPLE = "maquette train diorama/canny --output runs/canny --max-steps 500"
SETTINGS = settings_of(TrainingConfig)


def _run(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|FILE|DATA",
            help="diorama/CONDITION; a TOML file or a run's training.json; or pairs of your own, with --condition.",
        ),
    ],
    *,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting by its name in files, such as optimizer.ema=0.999; several are fine.",
        ),
    ] = None,
    **flags: Any,
) -> None:
    """Train a ControlNet and watch for the step at which the condition takes hold.

    What is not given comes from the run that is resumed, from FILE, or from the defaults; docs/training.md has all
    settings. Several processes: torchrun --nproc-per-node 2 -m maquette train ...
    """
    typed = read_flags(flags, SETTINGS.values())
    named = read_named(settings or [], "--set", "optimizer.ema=0.999")
    given = Given.of(TrainingConfig, typed, {name: flag(SETTINGS[name]) for name in typed})
    given = given.over(Given.of(TrainingConfig, named)).over(_before(recipe, typed["output"], typed.get("resume")))
    config = TrainingConfig(given)
    _check_names(config)
    from maquette.training.loop import train
    from maquette.training.monitor.metrics_log import Log

    try:
        folder = train(config)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if config.monitor.evaluate_every:
        hold = Log(folder, config.condition).converged()
        print("The condition has not taken hold yet." if hold is None else f"The condition took hold at step {hold}.")
    print(folder)


def _check_names(config: TrainingConfig) -> None:
    """Base, ControlNet, data and device: what names can tell before anything large is imported."""
    from maquette.checkpoints.names import local_base, local_controlnet
    from maquette.data.sources.jsonl import Columns
    from maquette.data.sources.open import find_reader
    from maquette.foundation.settings import check_device

    data = config.data
    check_device(config.hardware.device)
    local_base(config.base)
    if config.model.start_from is not None:
        local_controlnet(config.model.start_from)
    if data.source is not None:
        columns = Columns(data.image_column, data.condition_column, data.text_column, not data.detect)
        find_reader(data.source, columns)


run = with_flags(_run, SETTINGS.values(), required=("output",))


def _before(recipe: str, output: Path, resume: bool | None) -> Given:
    """The settings that flags override."""
    if resume:
        kept = TrainingConfig.load(output / CONFIG)
        if recipe.partition("/")[0] == "diorama" and recipe != f"diorama/{kept.condition}":
            raise MaquetteError(f"The run in {str(output)!r} trains diorama/{kept.condition}, not {recipe}.")
        before = Given.of(TrainingConfig, vars(kept))
        return Given.of(TrainingConfig, read_settings(Path(recipe))).over(before) if _is_settings(recipe) else before
    return Given.of(TrainingConfig, _described(recipe))


def _described(recipe: str) -> dict[str, Any]:
    """What a recipe, a file of settings, or a place of data says."""
    if _is_settings(recipe):
        return read_settings(Path(recipe))
    world, _, condition = recipe.partition("/")
    if world == "diorama" and condition and not Path(recipe).exists():
        return {"condition": condition}
    if not Path(recipe).exists() and not set(recipe) & set("/*{"):
        raise MaquetteError(
            f"A recipe is diorama/CONDITION, such as diorama/canny, or a file of settings, or pairs of your own with "
            f"--condition, not {recipe!r}."
        )
    return {"data": recipe}


def _is_settings(recipe: str) -> bool:
    return Path(recipe).suffix in (".toml", ".json") and Path(recipe).is_file()
