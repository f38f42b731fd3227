"""Every detector on images of one's own and on scenes of the diorama, on one sheet; captions below.

    HF_HUB_OFFLINE=1 python -m maquette.recipes.detectors --images photos --output detectors.png

Offline, detectors whose weights are not there are left out and named; online they are fetched, some gigabytes.
Two CPU cores: a minute.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from maquette.conditions.detect import Detector
from maquette.conditions.registry import detectors
from maquette.diorama import scene
from maquette.errors import MaquetteError
from maquette.foundation.image_grid import image_grid
from maquette.foundation.images import fit, open_image
from maquette.recipes.command import run

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Recipe:
    output: Path = Path("detectors.png")
    images: Path | None = None  # a folder
    first: int = 6  # so many of its images
    scenes: int = 6
    weights: Path | None = None  # a folder with a file or folder each, by the detector's name
    side: int = 512  # pixels; images are cut to squares
    tile: int = 192


def draw(recipe: Recipe) -> None:
    images = list(_images(recipe))
    rows, labels = [images], ["image"]
    captions: list[str] = []
    for name in detectors:
        try:
            answers = Detector(name, _weights(recipe, name))(images)
        except MaquetteError as error:
            print(f"{name} is left out: {error}")
            continue
        if detectors[name].outputs_text:
            captions = [str(words) for words in answers]
        else:
            rows.append(answers)
            labels.append(name)
    recipe.output.parent.mkdir(parents=True, exist_ok=True)
    below = [captions, *([[]] * (len(rows) - 1))] if captions else ()
    image_grid(rows, labels=labels, captions=below, tile=recipe.tile).save(recipe.output)
    print(recipe.output)


def _images(recipe: Recipe) -> Iterator[Image.Image]:
    found = sorted(recipe.images.iterdir()) if recipe.images else []
    for path in [path for path in found if path.suffix.lower() in ENDINGS][: recipe.first]:
        yield fit(open_image(path), (recipe.side, recipe.side))
    for seed in range(recipe.scenes):
        yield scene(seed).image


def _weights(recipe: Recipe, name: str) -> Path | None:
    """The user's own for a detector, where there are some."""
    given = recipe.weights.iterdir() if recipe.weights and not detectors[name].offline else ()
    return next((path for path in given if name in (path.name, path.stem)), None)


if __name__ == "__main__":
    run(draw, Recipe, __doc__)
