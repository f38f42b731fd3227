"""Train a comparison method on the diorama.

    python -m maquette.recipes.baselines piti --condition segmentation --steps 4500 --run runs/baselines/piti

Run again, it goes on where it stopped. The methods: piti, sketch-guided (edges), taming and ldm (class maps).
Two CPU cores: about an hour each with the steps of docs/baselines.md.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from maquette.baselines.protocol import Budget
from maquette.baselines.registry import make
from maquette.data.diorama import SCENES, Pairs
from maquette.diorama import dataset
from maquette.errors import MaquetteError
from maquette.foundation.declared import settings_of
from maquette.foundation.flags import read_flags, with_flags


@dataclass(frozen=True)
class Recipe:
    condition: str = "segmentation"  # of the diorama
    steps: int = 4500  # of all stages together
    batch_size: int = 16
    scenes: int = 8000  # of the training range
    run: Path | None = None  # a folder; by default runs/baselines/METHOD
    seed: int = 0
    base: str = "diorama"
    device: str = "auto"


def train(method: str, recipe: Recipe) -> None:
    """Train a method, or go on with its run.

    Raises `MaquetteError` for an unknown method or condition, and for values out of range.
    """
    from maquette.checkpoints import load_base

    budget = Budget(recipe.steps, recipe.batch_size, recipe.seed)
    made = make(method, load_base(recipe.base, recipe.device, "float32"), recipe.condition)
    pairs = Pairs.load(recipe.condition, range(dataset.TRAIN, dataset.TRAIN + recipe.scenes), SCENES)
    made.train(pairs, budget, recipe.run or Path("runs/baselines") / method)


def main() -> None:
    """Read the method and the recipe's flags, and train."""
    settings = settings_of(Recipe).values()

    def command(method: Annotated[str, typer.Argument(help="what to train")], **flags: Any) -> None:
        train(method, Recipe(**read_flags(flags, settings)))

    command.__doc__ = (__doc__ or "").replace("\n\n    ", "\n\n\b\n    ")
    try:
        typer.run(with_flags(command, settings))
    except MaquetteError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
