"""All detectors applied to your images and to scenes of the diorama, on one sheet, with captions.

    HF_HUB_OFFLINE=1 python -m maquette.recipes.detectors --images photos --output detectors.png

Offline, detectors without local weights are skipped with a message; online their weights are downloaded, some
gigabytes.
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
from maquette.foundation.images import fit, image_grid, open_image
from maquette.recipes.command import run

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Recipe:
    output: Path = Path("detectors.png")
    images: Path | None = None  # a folder
    first: int = 6  # how many of its images, by name
    scenes: int = 6
    weights: Path | None = None  # a folder with one file or folder per detector, by its name
    side: int = 512  # pixels; images are cropped to squares
    tile: int = 192


def make(recipe: Recipe) -> None:
    """Write the sheet."""
    images = list(_images(recipe))
    rows, labels = [images], ["image"]
    captions: list[str] = []
    for name in detectors:
        try:
            outputs = Detector(name, _weights(recipe, name))(images)
        except MaquetteError as error:
            print(f"{name} is skipped: {error}")
            continue
        if detectors[name].outputs_text:
            captions = [str(text) for text in outputs]
        else:
            rows.append(outputs)
            labels.append(name)
    recipe.output.parent.mkdir(parents=True, exist_ok=True)
    below = [captions, *([[]] * (len(rows) - 1))] if captions else ()
    image_grid(rows, labels=labels, captions=below, tile=recipe.tile).save(recipe.output)
    print(recipe.output)


def _images(recipe: Recipe) -> Iterator[Image.Image]:
    paths = sorted(recipe.images.iterdir()) if recipe.images else []
    for path in [path for path in paths if path.suffix.lower() in ENDINGS][: recipe.first]:
        yield fit(open_image(path), (recipe.side, recipe.side))
    for seed in range(recipe.scenes):
        yield scene(seed).image


def _weights(recipe: Recipe, name: str) -> Path | None:
    """The user's weights for a detector, if any."""
    paths = recipe.weights.iterdir() if recipe.weights and not detectors[name].offline else ()
    return next((path for path in paths if name in (path.name, path.stem)), None)


if __name__ == "__main__":
    run(make, Recipe, __doc__)
