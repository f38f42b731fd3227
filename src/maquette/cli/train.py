"""maquette train"""

from pathlib import Path
from typing import Annotated, Any

import typer

from maquette.errors import MaquetteError
from maquette.foundation.declared import settings_of
from maquette.foundation.flags import Given, flag, read_flags, with_flags
from maquette.foundation.memory import importing
from maquette.foundation.settings import read_named
from maquette.training.config import CONFIG, TrainingConfig, read_settings

EXAMPLE = "maquette train diorama/canny --output runs/canny --max-steps 500"
SETTINGS = settings_of(TrainingConfig)


def _run(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|FILE|DATA",
            help="diorama/CONDITION; a TOML file or a run's training.json; or your own pairs, with --condition.",
        ),
    ],
    *,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting by its name in files, such as optimizer.ema=0.999; may be repeated.",
        ),
    ] = None,
    **flags: Any,
) -> None:
    """Train a ControlNet, and date the step at which it converges and follows the condition.

    Settings that are left out come from the resumed run, from FILE, or from the defaults;
    docs/training.md lists them. Several processes: torchrun --nproc-per-node 2 -m maquette train
    """
    typed = read_flags(flags, SETTINGS.values())
    named = read_named(settings or [], "--set", "optimizer.ema=0.999")
    given = Given.of(TrainingConfig, typed, {name: flag(SETTINGS[name]) for name in typed})
    given = given.over(Given.of(TrainingConfig, named)).over(_defaults(recipe, typed["output"], typed.get("resume")))
    config = TrainingConfig(given)
    _check_names(config)
    with importing():
        from maquette.training.loop import train
    from maquette.training.monitor.metrics_log import Log

    try:
        folder = train(config)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if config.monitor.evaluate_every:
        verdict = Log(folder, config.condition).verdict()
        print(f"The training {'has ' * verdict.startswith('not ')}{verdict}.")
    print(folder)


def _check_names(config: TrainingConfig) -> None:
    """Check base, ControlNet, data and device by name, before the heavy imports."""
    from maquette.checkpoints.names import local_base, local_controlnet
    from maquette.data.sources.jsonl import Columns
    from maquette.data.sources.open import find_reader
    from maquette.foundation.settings import check_device

    data = config.data
    check_device(config.hardware.device)
    check_device(data.detect_device)
    local_base(config.base)
    if config.model.start_from is not None:
        local_controlnet(config.model.start_from)
    if data.source is not None:
        columns = Columns(
            data.image_column, data.condition_column, data.text_column, not data.detect, outside=data.outside
        )
        find_reader(data.source, columns)


run = with_flags(_run, SETTINGS.values(), required=("output",))


def _defaults(recipe: str, output: Path, resume: bool | None) -> Given:
    """The settings that flags override."""
    if resume:
        saved = TrainingConfig.load(output / CONFIG)
        given = Given.of(TrainingConfig, vars(saved))
        if _is_settings(recipe):
            return Given.of(TrainingConfig, read_settings(Path(recipe))).over(given)
        trained = saved.data.source or f"diorama/{saved.condition}"
        if recipe != trained and not _same_path(recipe, trained):
            raise MaquetteError(f"The run in {str(output)!r} trains on {trained}, not on {recipe}; resume it on these.")
        return given
    return Given.of(TrainingConfig, _settings_in(recipe))


def _same_path(one: str, other: str) -> bool:
    """Whether two names are of one file or folder that exists."""
    return Path(one).exists() and Path(one).resolve() == Path(other).resolve()


def _settings_in(recipe: str) -> dict[str, Any]:
    """The settings that follow from a recipe's name, a settings file or the name of a data set."""
    if _is_settings(recipe):
        return read_settings(Path(recipe))
    world, _, condition = recipe.partition("/")
    if world == "diorama" and condition and not Path(recipe).exists():
        return {"condition": condition}
    if not Path(recipe).exists() and not set(recipe) & set("/*{"):
        raise MaquetteError(
            f"A recipe is diorama/CONDITION, such as diorama/canny, or a settings file, or your own pairs with "
            f"--condition, not {recipe!r}."
        )
    return {"data": recipe}


def _is_settings(recipe: str) -> bool:
    return Path(recipe).suffix in (".toml", ".json") and Path(recipe).is_file()
