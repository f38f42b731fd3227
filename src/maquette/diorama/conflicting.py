"""Captions that contradict a scene's shapes and nothing else: other things in the same colours, places and setting.

A ControlNet that is trained on some of these learns to follow its map whatever the prompt says.
"""

import numpy as np

from maquette.diorama.things import COLOUR_NAMES, Thing, with_article
from maquette.diorama.world import World

SPREAD = 2_000_003  # apart from every other chance that a seed is asked for
NOUNS = ("ball", "cube", "cylinder", "cone", "house", "round tree", "pine tree", "person")


def conflicting(world: World, seed: int) -> str:
    """A caption of the world of that seed in which every thing is called something that it isn't."""
    rng = np.random.default_rng((SPREAD, seed))
    nouns = [with_article(_renamed(rng, thing)) for thing in world.things]
    setting = world.setting.phrases[rng.integers(len(world.setting.phrases))]
    return f"{', '.join(nouns[:-1])} and {nouns[-1]} {setting}" if len(nouns) > 1 else f"{nouns[0]} {setting}"


def _renamed(rng: np.random.Generator, thing: Thing) -> str:
    """Another kind's noun, with the first colour that the thing's phrase names."""
    nouns = [noun for noun in NOUNS if not noun.endswith(thing.kind)]
    noun = nouns[rng.integers(len(nouns))]
    colour = next((word for word in thing.phrase.split() if word in COLOUR_NAMES), None)
    if colour is None or noun == "pine tree":
        return noun
    return f"person in {with_article(colour)} shirt" if noun == "person" else f"{colour} {noun}"
