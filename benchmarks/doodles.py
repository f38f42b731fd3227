"""How well a ControlNet for scribbles follows doodles: outlines of things, drawn as the page's users draw.

    python benchmarks/doodles.py diorama/scribble
    python benchmarks/doodles.py runs/diorama/controlnets/scribble --scenes 100

Outlines are drawn from the exact class maps of the diorama's test scenes, and images generated from them and from the
captions. Prints the mean IoU of the classes that the perception model sees in them with the scenes' own, where all that
is no thing is one class, with its 95 % interval by bootstrap; without control for comparison.
"""

import argparse

import numpy as np
import torch
from numpy.typing import NDArray

import maquette as mq
from maquette.conditions.drawing.doodles import doodle
from maquette.conditions.networks.perception import PerceptionModel
from maquette.data.diorama import FIRST_THING
from maquette.diorama.dataset import TEST
from maquette.metrics.intervals import bootstrap
from maquette.metrics.maps import mean_iou

BATCH = 10


def things(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A class map (H, W) in which all that is no thing is one class."""
    return np.where(classes >= FIRST_THING, classes, np.uint8(0))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("net")
    parser.add_argument("--scenes", type=int, default=60)
    settings = parser.parse_args()
    base = mq.load_base("diorama")
    net, perception = mq.load_controlnet(settings.net, base), PerceptionModel()
    scores: dict[str, list[float]] = {"with control": [], "without": []}
    for first in range(TEST, TEST + settings.scenes, BATCH):
        scenes = [mq.diorama.scene(seed) for seed in range(first, min(first + BATCH, TEST + settings.scenes))]
        maps = [doodle(scene.classes, FIRST_THING, np.random.default_rng(scene.seed)) for scene in scenes]
        prompts = [scene.caption for scene in scenes]
        for name, controls in ("with control", [mq.Control(net, maps)]), ("without", []):
            images = mq.generate(base, prompts, controls, seed=first, record=False)
            seen = perception.predict(images).classes
            scores[name] += [
                mean_iou(things(one), things(scene.classes)) for one, scene in zip(seen, scenes, strict=True)
            ]
    for name, values in scores.items():
        found = bootstrap(np.array(values))
        print(f"{name}: {found.mean:.3f} [{found.low:.3f}, {found.high:.3f}] over {len(values)} scenes")


if __name__ == "__main__":
    main()
