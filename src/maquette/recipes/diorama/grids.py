"""Image grids: controls combined, in regions and at different strengths, variants of guidance, and edits.

    python -m maquette.recipes.diorama.grids --output docs/grids

Two CPU cores: five minutes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageOps

from maquette.base import Base
from maquette.checkpoints import load_base, load_controlnet
from maquette.controlnet.control import Control
from maquette.data.diorama import Pairs
from maquette.diorama import SIZE, dataset, scene
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
STRENGTHS: dict[str, dict[str, Any]] = {
    "weight 1": {},
    "weight 0.5": {"weight": 0.5},
    "balance prompt": {"balance": "prompt"},
    "balance control": {"balance": "control"},
    "curve 1 to 0": {"curve": [(0, 1), (1, 0)]},
    "curve 0 to 1": {"curve": [(0, 0), (1, 1)]},
}
"""Settings of a control."""

WEIGHTS, ENDS = (0, 0.2, 0.5, 1), (0.1, 0.3, 1)
"""Columns and rows of the sweep, of scene `SWEPT`."""
SWEPT = 20

EDITED = {27: "a red ball", 192: "a green tree", 246: "a blue cube", 408: "a red house in the desert"}
"""Scenes with room on the left, and what is put there."""


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
    strengths(base, "canny").save(recipe.output / "strengths.png")
    weight_by_end(base, "canny").save(recipe.output / "sweep.png")
    regions(base, "canny").save(recipe.output / "regions.png")
    edits(base).save(recipe.output / "edits.png")


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


def strengths(base: Base, condition: str) -> Image.Image:
    """Each of `STRENGTHS` under the caption of another scene; one column per scene."""
    net, pairs = load_controlnet(f"diorama/{condition}", base), _pairs(condition)
    others = dict(zip(SCENES, (*SCENES[1:], SCENES[0]), strict=True))
    rows = [[pairs.standard(row) for row in SCENES]]
    for settings in STRENGTHS.values():
        rows.append(
            [
                _generate(base, pairs.captions[other], [Control(net, pairs.standard(row), **settings)], row)
                for row, other in others.items()
            ]
        )
    captions = [[pairs.captions[other] for other in others.values()], *([[]] * len(STRENGTHS))]
    return image_grid(rows, labels=(condition, *STRENGTHS), captions=captions)


def weight_by_end(base: Base, condition: str) -> Image.Image:
    """One scene under its caption, with its control at each of `WEIGHTS` until each of `ENDS`; above it scene and map.

    As `maquette generate MAP --map --sweep weight=... --sweep end=...` has it.
    """
    net, pairs = load_controlnet(f"diorama/{condition}", base), _pairs(condition)
    condition_map, prompt = pairs.standard(SWEPT), pairs.captions[SWEPT]
    rows = [[Image.fromarray(pairs.images[SWEPT]), condition_map]]
    for end in ENDS:
        controls = [Control(net, condition_map, weight=weight, end=end) for weight in WEIGHTS]
        rows.append([_generate(base, prompt, [control], SWEPT) for control in controls])
    captions = [["source", condition], *([[f"weight {weight:g}" for weight in WEIGHTS]] * len(ENDS))]
    return image_grid(rows, labels=("", *(f"end {end:g}" for end in ENDS)), captions=captions)


def regions(base: Base, condition: str) -> Image.Image:
    """Two maps, each in its half of the image, with a soft edge of 32 pixels; one column per pair of scenes."""
    net, pairs = load_controlnet(f"diorama/{condition}", base), _pairs(condition)
    left = Image.fromarray(np.tile(np.clip(np.linspace(2.5, -1.5, SIZE), 0, 1) * 255, (SIZE, 1)).astype(np.uint8))
    columns = []
    for row, other in zip(SCENES, (*SCENES[1:], SCENES[0]), strict=True):
        maps = pairs.standard(row), pairs.standard(other)
        halves = [Control(net, maps[0], mask=left), Control(net, maps[1], mask=ImageOps.invert(left))]
        whole = [Control(net, condition_map) for condition_map in maps]
        columns.append([*maps, left, _generate(base, "", halves, row), _generate(base, "", whole, row)])
    labels = ("first map", "second map", "mask of the first", "a half each", "both everywhere")
    return image_grid([list(row) for row in zip(*columns, strict=True)], labels=labels)


def edits(base: Base) -> Image.Image:
    """Scenes with something put into them, and where they differ from the original; one column per scene."""
    mask = Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(mask).rounded_rectangle((6, 44, 68, 116), 12, fill=255)
    columns = []
    for row, prompt in EDITED.items():
        original = scene(dataset.TEST + row).image
        edited = generate(base, prompt, image=original, mask=mask, seed=row)[0]
        changed = ImageChops.difference(edited, original).convert("L").point(lambda level: 255 * (level > 0))
        columns.append([original, mask, edited, changed])
    labels = ("original", "mask", "edited", "changed pixels")
    return image_grid([list(row) for row in zip(*columns, strict=True)], labels=labels, tile=192)


def _pairs(condition: str) -> Pairs:
    return Pairs.load(condition, range(dataset.TEST, dataset.TEST + max(SCENES) + 1))


def _generate(base: Base, prompt: str, controls: list[Control], seed: int) -> Image.Image:
    return generate(base, prompt, controls, seed=seed)[0]


if __name__ == "__main__":
    run(make, Recipe, __doc__)
