"""Fifty prompts as people first type them: does a base draw what they name?"""

import numpy as np
from numpy.typing import NDArray

from maquette.base import Base
from maquette.conditions.networks.perception import PerceptionModel
from maquette.diorama.things import colour_index
from maquette.evaluation.base import sees
from maquette.metrics.intervals import Interval, bootstrap
from maquette.sampling.generate import generate

Named = tuple[str, str]  # kind and colour, "" where none is said

PROMPTS: dict[str, tuple[Named, ...]] = {
    "a house": (("house", ""),),
    "house": (("house", ""),),
    "red house": (("house", "red"),),
    "a blue house": (("house", "blue"),),
    "House with a red roof": (("house", ""),),
    "a yellow cottage": (("house", "yellow"),),
    "white building": (("house", "white"),),
    "a tree": (("tree", ""),),
    "pine tree": (("tree", ""),),
    "a green tree": (("tree", "green"),),
    "trees": (("tree", ""),),
    "a fir tree in winter": (("tree", ""),),
    "ball": (("ball", ""),),
    "a red ball": (("ball", "red"),),
    "blue sphere": (("ball", "blue"),),
    "A Green Ball": (("ball", "green"),),
    "a shiny sphere": (("ball", ""),),
    "cube": (("cube", ""),),
    "a red cube": (("cube", "red"),),
    "yellow box": (("cube", "yellow"),),
    "a blue block": (("cube", "blue"),),
    "an orange cone": (("cone", "orange"),),
    "cone": (("cone", ""),),
    "purple cylinder": (("cylinder", "purple"),),
    "a pink barrel": (("cylinder", "pink"),),
    "a person": (("person", ""),),
    "man": (("person", ""),),
    "a woman in red": (("person", "red"),),
    "people": (("person", ""),),
    "someone waving": (("person", ""),),
    "a man running": (("person", ""),),
    "a red house and a blue ball": (("house", "red"), ("ball", "blue")),
    "blue ball and red house": (("ball", "blue"), ("house", "red")),
    "red cube, blue ball": (("cube", "red"), ("ball", "blue")),
    "a house and a tree": (("house", ""), ("tree", "")),
    "house, tree, person": (("house", ""), ("tree", ""), ("person", "")),
    "a tree next to a house": (("tree", ""), ("house", "")),
    "a person next to a tree": (("person", ""), ("tree", "")),
    "a man and a woman": (("person", ""),),
    "two balls": (("ball", ""),),
    "two red balls": (("ball", "red"),),
    "three trees": (("tree", ""),),
    "3 houses": (("house", ""),),
    "two people": (("person", ""),),
    "A RED HOUSE": (("house", "red"),),
    "red coloured ball": (("ball", "red"),),
    "a blue colored cube": (("cube", "blue"),),
    "night, a white house": (("house", "white"),),
    "snow, red ball": (("ball", "red"),),
    "a photo of a house in the desert": (("house", ""),),
}
"""What each names: a kind of the diorama and a colour, in the words people use for them."""


def plain_words(
    base: Base, eye: PerceptionModel, each: int = 4, steps: int | None = None, batch_size: int = 50
) -> dict[str, Interval]:
    """Shares of things `found` and `coloured`, each prompt counting alike, in `each` images of every prompt."""
    asked = [prompt for prompt in PROMPTS for _ in range(each)]
    images = generate(base, asked, steps=steps, batch_size=batch_size, record=False)
    found, coloured = [], []
    for row, named in enumerate(PROMPTS.values()):
        seen = eye.predict(images[row * each : (row + 1) * each])
        verdicts = [
            judge(*maps, kind, colour)
            for maps in zip(seen.classes, seen.colours, strict=True)
            for kind, colour in named
        ]
        found.append(np.mean([kind for kind, _ in verdicts]))
        if all(colour for _, colour in named):
            coloured.append(np.mean([colour for _, colour in verdicts]))
    return {"found": bootstrap(np.array(found)), "coloured": bootstrap(np.array(coloured))}


def judge(classes: NDArray[np.uint8], colours: NDArray[np.uint8], kind: str, colour: str) -> tuple[bool, bool]:
    return sees(classes, colours, kind, colour_index(colour) if colour else 0, alike=1)
