"""Train the whole embedded model from scratch: every stage in turn, each resuming where it stopped.

    python -m maquette.recipes.diorama.everything                  # two CPU cores: some five hours
    python -m maquette.recipes.diorama.everything --preset gpu     # one GPU; never run from end to end

Finished stages are skipped; the result is written to src/maquette/weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.data.diorama import CONDITIONS
from maquette.recipes.command import run
from maquette.recipes.diorama import autoencoder, base, decoder, perception, ship
from maquette.training.config import CONFIG, TrainingConfig
from maquette.training.loop import train

Settings = dict[str, dict[str, Any]]

HOLDING = {"decay": "cosine", "prompt_drop": 0.4, "prompt_conflict": 0.35}
"""How ControlNets learn to hold their shape against a prompt that names other things."""

PRESETS: dict[str, Settings] = {
    "cpu": {
        "autoencoder": {},
        "decoder": {},
        "base": {},
        "perception": {},
        "controlnet": {"max_steps": 800, "learning_rate": 1e-3, **HOLDING},
    },
    "gpu": {
        "autoencoder": {"device": "cuda", "compile": 1, "scenes": 100_000, "batch_size": 256, "learning_rate": 3e-3},
        "decoder": {"device": "cuda", "scenes": 100_000, "batch_size": 128, "learning_rate": 2e-3},
        "base": {
            "device": "cuda",
            "scenes": 100_000,
            "batch_size": 1024,
            "steps": 5_000,
            "learning_rate": 0.02,
            "ema": 0.99,
        },  # 5.5 steps a second on an H200
        "perception": {"device": "cuda", "scenes": 100_000, "batch_size": 64, "steps": 6_000},
        "controlnet": {"device": "cuda", "batch_size": 128, "max_steps": 2000, "workers": 2, **HOLDING},
    },
}


@dataclass(frozen=True)
class Recipe:
    run: Path = Path("runs/diorama")
    target: Path = Path("src/maquette/weights/diorama")
    preset: str = "cpu"
    conditions: str = ",".join(CONDITIONS)  # the ControlNets to train, in order


def make(recipe: Recipe) -> None:
    """Run all stages, then publish the weights into the target folder."""
    settings = PRESETS[recipe.preset]
    if not (recipe.run / "vae").exists():
        autoencoder.train(autoencoder.Recipe(run=recipe.run, **settings["autoencoder"]))
    decoder.train(decoder.Recipe(run=recipe.run, **settings["decoder"]))
    base.train(base.Recipe(run=recipe.run, **settings["base"]))
    if not (recipe.run / "perception.safetensors").exists():
        perception.train(perception.Recipe(run=recipe.run, **settings["perception"]))
    ship.ship(ship.Recipe(recipe.run, recipe.target))
    train_controlnets(recipe, settings["controlnet"])
    ship.ship(ship.Recipe(recipe.run, recipe.target))


def train_controlnets(recipe: Recipe, settings: dict[str, Any]) -> None:
    """Train the unfinished ControlNets on the new base; they share its cache on disk."""
    for condition in filter(None, recipe.conditions.split(",")):
        output = recipe.run / "controlnets" / condition
        if (output / "config.json").exists():
            continue
        config = TrainingConfig(
            condition=condition,
            output=output,
            base=str(recipe.target / "base"),
            resume=(output / CONFIG).exists(),
            **settings,
        )
        train(config)


if __name__ == "__main__":
    run(make, Recipe, __doc__)
