"""maquette train"""

from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLE = "maquette train diorama/canny --output runs/canny --max-steps 500"


def run(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE|FILE", help="diorama/CONDITION, or a TOML file or a run's training.json.")
    ],
    output: Annotated[Path, typer.Option(help="The run's folder.")],
    max_steps: Annotated[int | None, typer.Option(help="Optimiser steps, 1000.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures a step, 32.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the learning rate, 1e-3.")] = None,
    scenes: Annotated[int | None, typer.Option(help="Pairs: so many rendered scenes, 8000.")] = None,
    prompt_drop: Annotated[float | None, typer.Option(help="Share of prompts replaced by the empty one, 0.5.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Condition encoder: release or paper.")] = None,
    connect: Annotated[str | None, typer.Option(help="Residuals in use: all, or middle.")] = None,
    kind: Annotated[str | None, typer.Option(help="zero, or the ablations gaussian and lite.")] = None,
    decay: Annotated[str | None, typer.Option(help="Of the learning rate: constant, or cosine to 0.")] = None,
    warmup: Annotated[int | None, typer.Option(help="Steps up to the peak, 50.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides all chance of the run, 0.")] = None,
    evaluate_every: Annotated[
        int | None, typer.Option(help="Steps between measurements of fidelity, 100; 0: none.")
    ] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps between two saved states, 250.")] = None,
    base: Annotated[str | None, typer.Option(help="The locked model, diorama.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the state in the run's folder.")] = False,
) -> None:
    """Train a ControlNet and watch for the step at which the condition takes hold.

    What is not given comes from the run that is resumed, from FILE, or from the defaults.
    """
    given = {name: value for name, value in locals().items() if name != "recipe" and value is not None}
    from maquette.training.config import TrainingConfig
    from maquette.training.loop import train
    from maquette.training.run import Log

    config = TrainingConfig.of({**_before(recipe, output, resume), **given})
    folder = train(config)
    if config.evaluate_every:
        hold = Log(folder, "", "").converged()
        print("The condition has not taken hold yet." if hold is None else f"The condition took hold at step {hold}.")
    print(folder)


def _before(recipe: str, output: Path, resume: bool) -> dict[str, Any]:
    """The settings that flags override."""
    from maquette.errors import MaquetteError
    from maquette.training.config import TrainingConfig, read_settings
    from maquette.training.run import CONFIG

    if resume:
        before = vars(TrainingConfig.load(output / CONFIG))
        if recipe.partition("/")[0] == "diorama" and recipe != f"diorama/{before['condition']}":
            raise MaquetteError(f"The run in {str(output)!r} trains diorama/{before['condition']}, not {recipe}.")
        return before
    if Path(recipe).is_file():
        return read_settings(Path(recipe))
    world, _, condition = recipe.partition("/")
    if world != "diorama" or not condition:
        raise MaquetteError(f"A recipe is diorama/CONDITION, such as diorama/canny, or a file, not {recipe!r}.")
    return {"condition": condition}
