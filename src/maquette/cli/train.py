"""maquette train"""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "maquette train diorama/canny --output runs/canny --max-steps 500"


def run(
    recipe: Annotated[
        str, typer.Argument(help="diorama/CONDITION: canny, depth, normal, pose, scribble, segmentation.")
    ],
    output: Annotated[Path, typer.Option(help="The run's folder.")],
    max_steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 1500,
    batch_size: Annotated[int, typer.Option(help="Pictures a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Peak of the learning rate.")] = 7e-4,
    scenes: Annotated[int, typer.Option(help="Pairs: so many rendered scenes.")] = 8000,
    prompt_drop: Annotated[float, typer.Option(help="Share of the prompts replaced by the empty one.")] = 0.5,
    encoder: Annotated[str, typer.Option(help="Condition encoder: release or paper.")] = "release",
    connect: Annotated[str, typer.Option(help="Residuals in use: all, or middle.")] = "all",
    kind: Annotated[str, typer.Option(help="zero, or the ablations gaussian and lite.")] = "zero",
    decay: Annotated[str, typer.Option(help="Of the learning rate: cosine or constant.")] = "cosine",
    seed: Annotated[int, typer.Option(help="Decides all chance of the run.")] = 0,
    evaluate_every: Annotated[int, typer.Option(help="Steps between two measurements of fidelity, 0 for none.")] = 100,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between two saved states.")] = 250,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    resume: Annotated[bool, typer.Option(help="Go on from the state in the run's folder.")] = False,
) -> None:
    """Train a ControlNet and watch for the step at which the condition takes hold."""
    from maquette.errors import MaquetteError
    from maquette.training.config import TrainingConfig
    from maquette.training.loop import train
    from maquette.training.run import Log

    world, _, condition = recipe.partition("/")
    if world != "diorama" or not condition:
        raise MaquetteError(f"A recipe is diorama/CONDITION, such as diorama/canny, not {recipe!r}.")
    config = TrainingConfig(
        condition=condition,
        output=output,
        scenes=scenes,
        max_steps=max_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        decay=decay,  # type: ignore[arg-type]
        prompt_drop=prompt_drop,
        encoder=encoder,  # type: ignore[arg-type]
        connect=connect,  # type: ignore[arg-type]
        kind=kind,  # type: ignore[arg-type]
        seed=seed,
        evaluate_every=evaluate_every,
        checkpoint_every=checkpoint_every,
        device=device,
        resume=resume,
    )
    folder = train(config)
    hold = Log(folder, "", "").converged()
    print("The condition has not taken hold yet." if hold is None else f"The condition took hold at step {hold}.")
    print(folder)
