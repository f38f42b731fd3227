"""maquette train"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from maquette.training.config import TrainingConfig

EXAMPLE = "maquette train diorama/canny --output runs/canny --max-steps 500"


def run(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|FILE|DATA",
            help="diorama/CONDITION; a TOML file or a run's training.json; or pairs of your own, with --condition.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="The run's folder.")],
    condition: Annotated[str | None, typer.Option(help="What steers, for pairs of your own: any word.")] = None,
    detect: Annotated[
        bool | None, typer.Option("--detect", help="Draw the conditions, by the detector that --condition names.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="The locked model, diorama.")] = None,
    start_from: Annotated[str | None, typer.Option(help="A ControlNet to go on from.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimiser steps, 1000.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures a step, over all processes, 32.")] = None,
    accumulation: Annotated[int | None, typer.Option(help="Parts of a step: less memory, the same result; 1.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the learning rate, 1e-3.")] = None,
    connect: Annotated[str | None, typer.Option(help="Residuals in use: all, or middle.")] = None,
    kind: Annotated[str | None, typer.Option(help="zero, or the ablations gaussian and lite.")] = None,
    decay: Annotated[str | None, typer.Option(help="Of the learning rate: constant, or cosine to 0.")] = None,
    scenes: Annotated[int | None, typer.Option(help="Pairs of the diorama: so many rendered scenes, 8000.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides all chance of the run, 0.")] = None,
    evaluate_every: Annotated[
        int | None, typer.Option(help="Steps between measurements of gain and fidelity, 100; 0: none.")
    ] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps between two saved states, 250.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting, such as ema=0.999; several are fine."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last state in the run's folder.")] = False,
) -> None:
    """Train a ControlNet and watch for the step at which the condition takes hold.

    What is not given comes from the run that is resumed, from FILE, or from the defaults; docs/training.md has all
    settings. Several processes: torchrun --nproc-per-node 2 -m maquette train ...
    """
    flags = {name: value for name, value in locals().items() if value is not None}
    flags = {name: value for name, value in flags.items() if name not in ("recipe", "settings")}
    from maquette.foundation.settings import read_named
    from maquette.training.config import TrainingConfig

    given = {**_before(recipe, output, resume), **read_named(settings or [], "--set", "ema=0.999"), **flags}
    config = TrainingConfig.of(given, {name: "--" + name.replace("_", "-") for name in flags})
    _check_names(config)
    from maquette.training.log import Log
    from maquette.training.loop import train

    try:
        folder = train(config)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if config.evaluate_every:
        hold = Log(folder, config.condition).converged()
        print("The condition has not taken hold yet." if hold is None else f"The condition took hold at step {hold}.")
    print(folder)


def _check_names(config: "TrainingConfig") -> None:
    """Base, ControlNet, data and device: what names can tell before anything large is imported."""
    from maquette.checkpoints.names import local_base, local_controlnet
    from maquette.data.rows import Columns
    from maquette.data.source import find_reader
    from maquette.foundation.settings import check_device

    check_device(config.device)
    local_base(config.base)
    if config.start_from is not None:
        local_controlnet(config.start_from)
    if config.data is not None:
        columns = Columns(config.picture_column, config.condition_column, config.text_column, not config.detect)
        find_reader(config.data, columns)


def _before(recipe: str, output: Path, resume: bool) -> dict[str, Any]:
    """The settings that flags override."""
    from maquette.errors import MaquetteError
    from maquette.training.config import CONFIG, TrainingConfig, read_settings

    if resume:
        before = vars(TrainingConfig.load(output / CONFIG))
        if recipe.partition("/")[0] == "diorama" and recipe != f"diorama/{before['condition']}":
            raise MaquetteError(f"The run in {str(output)!r} trains diorama/{before['condition']}, not {recipe}.")
        return {**before, **read_settings(Path(recipe))} if _is_settings(recipe) else before
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
