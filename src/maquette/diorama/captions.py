"""Captions from a small grammar: things from left to right, then the setting."""

import numpy as np

from maquette.diorama.things import with_article
from maquette.diorama.world import World

DEFAULT_PROMPT = "a high-quality, detailed, and professional image"
"""The paper's prompt that says nothing of the content."""

_OPENINGS = ("a picture of ", "an image of ", "a photo of ")
_EMPTY = (DEFAULT_PROMPT, "an image", "a picture", "a small scene", "a beautiful picture, highly detailed")


def caption(rng: np.random.Generator, world: World) -> str:
    """Words for a world; one in thirty says nothing of it, as people's captions sometimes do."""
    nouns = [with_article(thing.phrase) for thing in world.things]
    setting = world.setting.phrases[rng.integers(len(world.setting.phrases))]
    opening = _OPENINGS[rng.integers(len(_OPENINGS))] if rng.random() < 0.08 else ""
    relation = rng.random()
    empty = rng.random() < 1 / 30
    if empty:
        return _EMPTY[rng.integers(len(_EMPTY))]
    return f"{opening}{enumerated(nouns, relation)} {setting}"


def enumerated(nouns: list[str], relation: float = 1.0) -> str:
    """Join nouns; two of them also by their places, one way or the other as `relation` in [0, 1) says."""
    if len(nouns) == 1:
        return nouns[0]
    if len(nouns) == 2 and relation < 0.15:
        return f"{nouns[0]} to the left of {nouns[1]}"
    if len(nouns) == 2 and relation < 0.30:
        return f"{nouns[1]} to the right of {nouns[0]}"
    if len(nouns) == 2 and relation < 0.45:
        return f"{nouns[0]} next to {nouns[1]}"
    return f"{', '.join(nouns[:-1])} and {nouns[-1]}"
