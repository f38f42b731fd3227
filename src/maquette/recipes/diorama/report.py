"""What the embedded base can do, in numbers and images.

    python -m maquette.recipes.diorama.report --output docs/base

Two CPU cores: about twenty minutes, in bfloat16 a quarter of an hour. Scenes are of the test range, which no
training sees.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from maquette.base import Base
from maquette.checkpoints import load_base
from maquette.conditions.networks.perception import PerceptionModel
from maquette.diorama import Scene, dataset, scene
from maquette.evaluation.base import prompt_alignment, reconstruction
from maquette.evaluation.plain_words import plain_words
from maquette.foundation.files import atomic_write
from maquette.foundation.image_grid import image_grid
from maquette.foundation.progress import steps_bar
from maquette.metrics.frechet import frechet_distance
from maquette.recipes.command import run
from maquette.recipes.diorama import scenes as rendered
from maquette.sampling.generate import generate

COLUMNS = 8


@dataclass(frozen=True)
class Recipe:
    output: Path = Path("docs/base")
    images: int = 2000  # generated, for the Fréchet distance
    judged: int = 500  # of them, for prompt_alignment to the prompt
    reconstructed: int = 1000
    plain: int = 4  # images of each of fifty plain prompts
    steps: int | None = None  # of sampling, and its guidance: without a value the base's own
    guidance: float | None = None
    batch_size: int = 50
    base: str = "diorama"
    eye: Path | None = None  # weights of the network that looks, the shipped ones without
    device: str = "cpu"
    dtype: str = "float32"


def report(recipe: Recipe) -> dict[str, float]:
    base, eye = load_base(recipe.base, recipe.device, recipe.dtype), PerceptionModel(recipe.eye, recipe.device)
    true = _images(2 * recipe.images)
    scenes = [scene(dataset.TEST + row) for row in range(recipe.judged)]
    captions = rendered.captions(recipe.images, first=dataset.TEST)
    generated = _generate(base, captions, recipe)
    named = [row for row, one in enumerate(scenes) if _names_its_things(one)]
    on_generated = prompt_alignment([generated[row] for row in named], [scenes[row] for row in named], eye)
    on_true = prompt_alignment([true[row] for row in named], [scenes[row] for row in named], eye)
    halves = true[: recipe.images], true[recipe.images :]
    features = [eye.embed(images) for images in (generated, *halves)]
    plain = plain_words(base, eye, recipe.plain, recipe.steps, recipe.batch_size)
    numbers = {
        "psnr": reconstruction(base, true[: recipe.reconstructed]),
        "found": on_generated.found,
        "found in true scenes": on_true.found,
        "coloured": on_generated.coloured,
        "coloured in true scenes": on_true.coloured,
        "plain words found": plain["found"].mean,
        "plain words coloured": plain["coloured"].mean,
        "frechet": frechet_distance(features[0], features[1]),
        "frechet of true scenes": frechet_distance(features[2], features[1]),
    }
    _save(recipe, base, numbers, captions, generated, true)
    return numbers


def _images(count: int) -> list[Image.Image]:
    (images,) = rendered.load(count, "cpu", "images", first=dataset.TEST)
    return [Image.fromarray(image) for image in images.numpy()]


def _generate(base: Base, prompts: list[str], recipe: Recipe) -> list[Image.Image]:
    with steps_bar("generating") as progress:
        return generate(
            base,
            prompts,
            steps=recipe.steps,
            guidance=recipe.guidance,
            batch_size=recipe.batch_size,
            progress=progress,
        )


def _names_its_things(one: Scene) -> bool:
    """Not the captions that say nothing of the scene."""
    return all(thing.phrase in one.caption for thing in one.world.things)


def _save(
    recipe: Recipe,
    base: Base,
    numbers: dict[str, float],
    captions: list[str],
    generated: list[Image.Image],
    true: list[Image.Image],
) -> None:
    recipe.output.mkdir(parents=True, exist_ok=True)
    rows = [slice(start, start + COLUMNS) for start in range(0, 64, COLUMNS)]
    shown = [generated[row] for row in rows]
    image_grid(shown, captions=[captions[row] for row in rows], tile=160).save(recipe.output / "prompts.png")
    again = base.decode_latents(base.encode_images(true[: 3 * COLUMNS]))
    pairs = [part[row] for row in rows[:3] for part in (true, again)]
    image_grid(pairs, labels=("true", "through the autoencoder") * 3).save(recipe.output / "reconstructions.png")
    rounded = {name: round(float(np.float64(value)), 4) for name, value in numbers.items()}
    with atomic_write(recipe.output / "numbers.json") as path:
        path.write_text(json.dumps(rounded, indent=2) + "\n")
    print(json.dumps(rounded, indent=2))


if __name__ == "__main__":
    run(report, Recipe, __doc__)
