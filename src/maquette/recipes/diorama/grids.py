"""Two controls at once beside each alone, and the three ways of guidance without a prompt, one grid each.

    python -m maquette.recipes.diorama.grids --output docs/grids

Two CPU cores: two minutes.
"""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from maquette.base import Base
from maquette.checkpoints import load_base, load_controlnet
from maquette.controlnet.control import Control
from maquette.data.diorama import Pairs
from maquette.diorama import dataset
from maquette.foundation.image_grid import image_grid
from maquette.recipes.command import run
from maquette.sampling.config import ConditionIn, ResolutionWeights
from maquette.sampling.generate import generate

SCENES = (1, 7, 20, 57, 61, 62)  # of the test range: people beside other things
PAIRS = (("depth", "pose"), ("canny", "segmentation"))
WAYS: dict[str, tuple[ConditionIn, ResolutionWeights]] = {
    "both branches": ("both", "normalised"),
    "conditional only": ("conditional", "normalised"),
    "resolution weights": ("weighted", "normalised"),
    "weights, literal": ("weighted", "literal"),
}


@dataclass(frozen=True)
class Recipe:
    output: Path = Path("docs/grids")
    device: str = "cpu"


def draw(recipe: Recipe) -> None:
    base = load_base("diorama", recipe.device)
    recipe.output.mkdir(parents=True, exist_ok=True)
    for pair in PAIRS:
        two_controls(base, pair).save(recipe.output / f"{'-and-'.join(pair)}.png")
    three_ways(base, "canny").save(recipe.output / "guidance.png")


def two_controls(base: Base, pair: tuple[str, str]) -> Image.Image:
    """Source, the two maps, each control alone, both: under another scene's prompt."""
    loaded = [(load_controlnet(f"diorama/{name}", base), _pairs(name)) for name in pair]
    columns: list[list[Image.Image]] = []
    for row in SCENES:
        controls = [Control(net, pairs.standard(row)) for net, pairs in loaded]
        prompt = loaded[0][1].captions[row]
        alone = [_one(base, prompt, [control], row) for control in controls]
        source = Image.fromarray(loaded[0][1].images[row])
        columns.append(
            [source, *(pairs.standard(row) for _, pairs in loaded), *alone, _one(base, prompt, controls, row)]
        )
    labels = ("source", f"{pair[0]} map", f"{pair[1]} map", f"{pair[0]} alone", f"{pair[1]} alone", "both")
    return image_grid([list(row) for row in zip(*columns, strict=True)], labels=labels)


def three_ways(base: Base, condition: str) -> Image.Image:
    """The condition in both branches, in one, and there with resolution weights: no prompt, paper's guidance of 9."""
    net, pairs = load_controlnet(f"diorama/{condition}", base), _pairs(condition)
    rows = [[Image.fromarray(pairs.images[row]) for row in SCENES], [pairs.standard(row) for row in SCENES]]
    for condition_in, weights in WAYS.values():
        rows.append(
            [
                generate(
                    base,
                    "",
                    [Control(net, pairs.standard(row))],
                    guidance=9.0,
                    condition_in=condition_in,
                    resolution_weights=weights,
                    seed=row,
                )[0]
                for row in SCENES
            ]
        )
    return image_grid(rows, labels=("source", condition, *WAYS))


def _pairs(condition: str) -> Pairs:
    return Pairs.load(condition, range(dataset.TEST, dataset.TEST + max(SCENES) + 1))


def _one(base: Base, prompt: str, controls: list[Control], seed: int) -> Image.Image:
    return generate(base, prompt, controls, seed=seed)[0]


if __name__ == "__main__":
    run(draw, Recipe, __doc__)
