"""The two-minute demo: your image and two scenes, three conditions, four prompts each, on one sheet.

    maquette demo photo.jpg --prompt "a red house in the snow"

Two CPU cores: under a minute.
"""

import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image

from maquette.base import Base
from maquette.checkpoints import load_base, load_controlnet
from maquette.conditions.detectors.canny import DIORAMA, canny
from maquette.conditions.drawing.skeletons import pose_map
from maquette.conditions.drawing.surfaces import depth_map
from maquette.conditions.networks.perception import PerceptionModel
from maquette.controlnet.control import Control
from maquette.diorama import scene
from maquette.foundation.files import atomic_write, check_pngs
from maquette.foundation.images import fit, image_grid, open_image
from maquette.foundation.progress import steps_bar
from maquette.metrics.fidelity import NAMES, fidelity
from maquette.sampling.generate import generate

HOUSE = Path(str(files("maquette"))) / "images/house.png"
"""A drawing included in the package, like shapes.png beside it."""

DEPTH_SCENE, POSE_SCENE = 20_000_011, 20_000_170  # a tree and a house; two people
TILE = 224  # pixels of an image on the sheet

PROMPTS = {
    "canny": (
        "a red house with a white roof and a green pine tree in the snow",
        "a yellow house with a purple roof and an orange round tree at sunset",
        "a white house with a blue roof and a green round tree on a sunny day",
        "a blue house with a black roof and a pink round tree at night",
    ),
    "depth": (
        "a green pine tree and a red house with a white roof on a sunny day",
        "an orange pine tree and a yellow house with a brown roof in the desert",
        "a white pine tree and a purple house with a black roof in the snow",
        "a red pine tree and a blue house with a green roof at night",
    ),
    "pose": (
        "a person in a red shirt with raised arms and a person in a yellow shirt standing on a sunny day",
        "a person in a white shirt with raised arms and a person in a pink shirt standing at night",
        "a person in a blue shirt with raised arms and a person in a green shirt standing in the desert",
        "a person in a purple shirt with raised arms and a person in an orange shirt standing in the snow",
    ),
}


@dataclass(frozen=True)
class Row:
    """One row of the sheet."""

    condition: str
    source: Image.Image
    map: Image.Image
    truth: Any  # ground truth for `fidelity`
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """The sheet, and the scores of its images."""

    sheet: Path
    seconds: float
    fidelity: dict[str, list[float]]  # by condition, one score per prompt


def demo(image: Path | None, prompt: str | None, output: Path) -> Result:
    """Generate the sheet, and score its images.

    Args:
        image: replaces the bundled drawing.
        prompt: replaces the first prompt of the image's row.
        output: where to write the sheet, a PNG.

    Raises `MaquetteError` for an image that cannot be read or an output that cannot be written.
    """
    started = time.perf_counter()
    check_pngs([output])
    base, perception = load_base("diorama"), PerceptionModel()
    rows = [_image_row(base, open_image(image or HOUSE), prompt), *_scene_rows()]
    images, captions, scores = [], [], {}
    with steps_bar("generating") as progress:
        for number, row in enumerate(rows):
            control = Control(load_controlnet(f"diorama/{row.condition}", base), row.map)

            def move(done: int, total: int, before: int = number) -> None:
                progress(before * total + done, len(rows) * total)

            generated = generate(base, row.prompts, [control], seed=1, progress=move)
            scores[row.condition] = fidelity(row.condition, generated, [row.truth] * len(generated), perception)
            images.append([row.source, row.map, *generated])
            captions.append(["source", row.condition, *_captions(row, scores[row.condition])])
    with atomic_write(output) as path:
        image_grid(images, captions=captions, tile=TILE, gap=6).save(path, "PNG")
    return Result(output, time.perf_counter() - started, scores)


def _image_row(base: Base, image: Image.Image, prompt: str | None) -> Row:
    image = fit(image, (base.size, base.size))
    edges = canny(image, **DIORAMA)
    prompts = PROMPTS["canny"] if prompt is None else (prompt, *PROMPTS["canny"][1:])
    return Row("canny", image, edges, edges, prompts)


def _scene_rows() -> list[Row]:
    far, near = scene(DEPTH_SCENE), scene(POSE_SCENE)
    return [
        Row("depth", far.image, depth_map(far.depth), far.depth, PROMPTS["depth"]),
        Row("pose", near.image, pose_map(near.keypoints, near.image.size), near.keypoints, PROMPTS["pose"]),
    ]


def _captions(row: Row, scores: list[float]) -> list[str]:
    return [f"{score:.2f}: {prompt}" for prompt, score in zip(row.prompts, scores, strict=True)]


def describe(result: Result) -> str:
    """The result as text for the terminal."""
    lines = [
        f"{condition:>6}: {NAMES[condition]} " + "  ".join(f"{score:.2f}" for score in scores)
        for condition, scores in result.fidelity.items()
    ]
    return "\n".join([*lines, f"{result.sheet} ({result.seconds:.0f} s)"])
