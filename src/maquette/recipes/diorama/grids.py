"""Image grids: two controls combined and alone, and the variants of guidance without a prompt.

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
from maquette.foundation.images import image_grid
from maquette.recipes.command import run
from maquette.sampling.config import ConditionIn, ResolutionWeights
from maquette.sampling.generate import generate

SCENES = (1, 7, 20, 57, 61, 62)  # from the test range: people beside other things
PAIRS = (("depth", "pose"), ("canny", "segmentation"))
VARIANTS: dict[str, tuple[ConditionIn, ResolutionWeights]] = {
    "both branches": ("both", "normalised"),
    "conditional only": ("conditional", "normalised"),
    "resolution weights": ("weighted", "normalised"),
    "weights, literal": ("weighted", "literal"),
}


@dataclass(frozen=True)
class Recipe:
    output: Path = Path("docs/grids")
    device: str = "cpu"


def make(recipe: Recipe) -> None:
    """Write the grids."""
    base = load_base("diorama", recipe.device, "float32")
    recipe.output.mkdir(parents=True, exist_ok=True)
    for pair in PAIRS:
        combined_controls(base, pair).save(recipe.output / f"{'-and-'.join(pair)}.png")
    guidance_variants(base, "canny").save(recipe.output / "guidance.png")


def combined_controls(base: Base, pair: tuple[str, str]) -> Image.Image:
    """Source, the two maps, each control alone, and both; one column per scene."""
    loaded = [(load_controlnet(f"diorama/{name}", base), _pairs(name)) for name in pair]
    columns: list[list[Image.Image]] = []
    for row in SCENES:
        controls = [Control(net, pairs.standard(row)) for net, pairs in loaded]
        prompt = loaded[0][1].captions[row]
        alone = [_generate(base, prompt, [control], row) for control in controls]
        source = Image.fromarray(loaded[0][1].images[row])
        columns.append(
            [source, *(pairs.standard(row) for _, pairs in loaded), *alone, _generate(base, prompt, controls, row)]
        )
    labels = ("source", f"{pair[0]} map", f"{pair[1]} map", f"{pair[0]} alone", f"{pair[1]} alone", "both")
    return image_grid([list(row) for row in zip(*columns, strict=True)], labels=labels)


def guidance_variants(base: Base, condition: str) -> Image.Image:
    """Each of `VARIANTS` without a prompt, at the paper's guidance of 9; one column per scene."""
    net, pairs = load_controlnet(f"diorama/{condition}", base), _pairs(condition)
    rows = [[Image.fromarray(pairs.images[row]) for row in SCENES], [pairs.standard(row) for row in SCENES]]
    for condition_in, weights in VARIANTS.values():
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
    return image_grid(rows, labels=("source", condition, *VARIANTS))


def _pairs(condition: str) -> Pairs:
    return Pairs.load(condition, range(dataset.TEST, dataset.TEST + max(SCENES) + 1))


def _generate(base: Base, prompt: str, controls: list[Control], seed: int) -> Image.Image:
    return generate(base, prompt, controls, seed=seed)[0]


if __name__ == "__main__":
    run(make, Recipe, __doc__)
