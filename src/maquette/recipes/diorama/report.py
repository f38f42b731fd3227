"""Report on the embedded base, in numbers and images.

    python -m maquette.recipes.diorama.report --output docs/base

Two CPU cores: about twenty minutes, in bfloat16 a quarter of an hour. Scenes are from the test range, which
training never sees.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from maquette.base import Base
from maquette.checkpoints import load_base
from maquette.conditions.networks.perception import PerceptionModel
from maquette.diorama import dataset, scene
from maquette.evaluation.base import names_its_things, prompt_alignment, reconstruction, shapes
from maquette.evaluation.plain_words import plain_words
from maquette.foundation.files import atomic_write
from maquette.foundation.images import image_grid
from maquette.foundation.progress import steps_bar
from maquette.metrics.frechet import frechet_interval
from maquette.metrics.intervals import Interval
from maquette.recipes.command import run
from maquette.recipes.diorama import scenes as rendered
from maquette.sampling.generate import generate

COLUMNS = 8


@dataclass(frozen=True)
class Recipe:
    output: Path = Path("docs/base")
    images: int = 2000  # generated, for the Fréchet distance
    judged: int = 500  # of them, for prompt alignment
    reconstructed: int = 1000
    plain: int = 4  # images of each of fifty plain prompts
    steps: int | None = None  # of sampling; like guidance, the base's default where it is None
    guidance: float | None = None
    batch_size: int = 50
    base: str = "diorama"
    eye: Path | None = None  # weights of the perception model; the bundled ones by default
    device: str = "cpu"
    dtype: str = "float32"


def report(recipe: Recipe) -> dict[str, Interval]:
    """Measure the base; write numbers.json and image grids to the output folder, and return the numbers.

    "Of true scenes": the same measure of what the base should have drawn.
    """
    base, perception = load_base(recipe.base, recipe.device, recipe.dtype), PerceptionModel(recipe.eye, recipe.device)
    true = _images(2 * recipe.images)
    scenes = [scene(dataset.TEST + row) for row in range(recipe.judged)]
    captions = rendered.captions(recipe.images, first=dataset.TEST)
    generated = _generate(base, captions, recipe)
    named = [row for row, candidate in enumerate(scenes) if names_its_things(candidate)]
    on_generated = prompt_alignment([generated[row] for row in named], [scenes[row] for row in named], perception)
    on_true = prompt_alignment([true[row] for row in named], [scenes[row] for row in named], perception)
    halves = true[: recipe.images], true[recipe.images :]
    features = [perception.embed(images) for images in (generated, *halves)]
    plain = plain_words(base, perception, recipe.plain, recipe.steps, recipe.batch_size)
    numbers = {
        "psnr": reconstruction(base, true[: recipe.reconstructed]),
        "found": on_generated.found,
        "found of true scenes": on_true.found,
        "coloured": on_generated.coloured,
        "coloured of true scenes": on_true.coloured,
        "plain words found": plain["found"],
        "plain words coloured": plain["coloured"],
        "frechet": frechet_interval(features[0], features[1]),
        "frechet of true scenes": frechet_interval(features[2], features[1]),
        **shapes(generated[: recipe.judged], perception),
        **{f"{name} of true scenes": score for name, score in shapes(true[: recipe.judged], perception).items()},
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
            record=False,
            progress=progress,
        )


def _save(
    recipe: Recipe,
    base: Base,
    numbers: dict[str, Interval],
    captions: list[str],
    generated: list[Image.Image],
    true: list[Image.Image],
) -> None:
    recipe.output.mkdir(parents=True, exist_ok=True)
    rows = [slice(start, start + COLUMNS) for start in range(0, 64, COLUMNS)]
    shown = [generated[row] for row in rows]
    image_grid(shown, captions=[captions[row] for row in rows], tile=160).save(recipe.output / "prompts.png")
    decoded = base.decode_latents(base.encode_images(true[: 3 * COLUMNS]))
    pairs = [part[row] for row in rows[:3] for part in (true, decoded)]
    image_grid(pairs, labels=("true", "through the autoencoder") * 3).save(recipe.output / "reconstructions.png")
    rounded = {
        name: {which: round(value, 4) for which, value in asdict(score).items()} for name, score in numbers.items()
    }
    with atomic_write(recipe.output / "numbers.json") as path:
        path.write_text(json.dumps(rounded, indent=2) + "\n")
    print(json.dumps(rounded, indent=2))


if __name__ == "__main__":
    run(report, Recipe, __doc__)
