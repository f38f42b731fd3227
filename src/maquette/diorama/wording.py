"""Many ways to say what a scene shows, as people type: lists, fragments, synonyms, counts, capitals, two spellings.

`scene.caption` is one careful sentence; a base trained on it alone obeys such sentences alone.
"""

import re
from collections import Counter

import numpy as np

from maquette.diorama.captions import _EMPTY, DEFAULT_PROMPT
from maquette.diorama.things import COLOUR_NAMES, Thing, with_article
from maquette.diorama.world import World, compose

SYNONYMS: dict[str, tuple[str, ...]] = {  # by the word of a thing's phrase; the first is that word
    "ball": ("ball", "ball", "sphere", "globe"),
    "cube": ("cube", "cube", "box", "block"),
    "cylinder": ("cylinder", "cylinder", "barrel", "drum"),
    "cone": ("cone",),
    "house": ("house", "house", "house", "home", "cottage", "building"),
    "pine tree": ("pine tree", "pine", "fir tree", "tree", "christmas tree"),
    "round tree": ("round tree", "tree", "bush"),
    "person": ("person", "person", "man", "woman", "figure", "human"),
    "shiny": ("shiny", "glossy", "polished"),
    "striped": ("striped", "banded"),
    "purple": ("purple", "purple", "violet"),
}

SETTINGS: dict[str, tuple[str, ...]] = {  # beside the phrases of a setting, by its own first phrase
    "on a sunny day": ("on grass", "in a meadow", "in the sun", "outdoors", "on a lawn", "in daylight", "in summer"),
    "at sunset": ("in the evening", "at dusk", "under an orange sky", "at sundown"),
    "at night": ("in the dark", "in moonlight", "under the stars", "under a starry sky", "by night"),
    "in the snow": ("in winter", "on snow", "in a snowy landscape", "on a snowy day", "on white snow"),
    "in the desert": ("on sand", "in a sandy desert", "in the dunes", "in a dry landscape"),
}

LABELS: dict[str, tuple[str, ...]] = {  # a setting as a word in front or in a list
    "on a sunny day": ("sunny day", "meadow", "summer", "grass", "day"),
    "at sunset": ("sunset", "evening", "dusk"),
    "at night": ("night", "moonlight", "moonlit night"),
    "in the snow": ("winter", "snow", "snowy day"),
    "in the desert": ("desert", "sand"),
}

OPENINGS = (
    "a photo of ", "a picture of ", "an image of ", "a drawing of ", "a photograph of ", "a painting of ",
    "a render of ", "an illustration of ", "a scene with ", "there is ", "photo of ", "picture of ",
    "draw ", "show me ",
)  # fmt: skip
ENDINGS = (", highly detailed", ", high quality", ", beautiful", ", 3d render", ", sharp", ", best quality")
NUMBERS = {2: ("two", "two", "2", "a pair of"), 3: ("three", "3"), 4: ("four", "4")}
PLURALS = {"box": "boxes", "house": "houses", "person": "people", "man": "men", "woman": "women", "bush": "bushes"}
SPREAD = 1_000_003  # apart from every other chance that a seed is asked for


def world_of(seed: int) -> World:
    """What stands in the scene of a seed, undrawn."""
    return compose(np.random.default_rng(seed))


def wording(world: World, seed: int, number: int) -> str:
    """The wording of that number, 0 or more, of the world of that seed; both alone decide it."""
    rng = np.random.default_rng((SPREAD, seed, number))
    if rng.random() < 1 / 30:
        return str(rng.choice([*_EMPTY, DEFAULT_PROMPT, "scene", "a scene", "landscape"]))
    plain = rng.random() < 0.35  # fragments: no articles
    nouns = _nouns(rng, world.things, plain)
    words = _joined(rng, nouns, plain)
    if rng.random() < 0.2 and not plain:
        words = str(rng.choice(OPENINGS)) + words
    words = _with_setting(rng, words, world, plain)
    if rng.random() < 0.06:
        words += str(rng.choice(ENDINGS))
    return _typed(rng, words)


def _nouns(rng: np.random.Generator, things: tuple[Thing, ...], plain: bool) -> list[str]:
    """Phrases of the things, from left to right, or those that are alike counted: "two red balls"."""
    detail = float(rng.choice([1.0, 0.6, 0.0], p=[0.4, 0.35, 0.25]))  # how likely each detail is said
    colourless = rng.random() < 0.12
    phrases = [_phrase(rng, thing, detail, colourless) for thing in things]
    counts = Counter(phrases)
    if max(counts.values()) > 1 and rng.random() < 0.8:
        return [_counted(rng, phrase, count, plain) for phrase, count in counts.items()]
    kinds = Counter(_bare(thing) for thing in things)
    if len(kinds) == 1 and len(things) > 1 and rng.random() < 0.2:  # "three houses", whatever their colours
        return [_counted(rng, _synonym(rng, _bare(things[0])), len(things), plain)]
    return phrases if plain else [with_article(phrase) for phrase in phrases]


def _counted(rng: np.random.Generator, phrase: str, count: int, plain: bool) -> str:
    if count == 1:
        return phrase if plain else with_article(phrase)
    return f"{rng.choice(NUMBERS[count])} {_plural(phrase)}"


def _plural(phrase: str) -> str:
    """The noun alone bends: "red houses with a blue roof"."""
    noun, *rest = re.split(r"(?= with | in | standing| waving| walking| running)", phrase, maxsplit=1)
    head, _, last = noun.rpartition(" ")
    return f"{head} {PLURALS.get(last, last + 's')}".strip() + "".join(rest)


def _bare(thing: Thing) -> str:
    return "tree" if thing.kind == "tree" else thing.kind


def _phrase(rng: np.random.Generator, thing: Thing, detail: float, colourless: bool) -> str:
    """A thing's phrase in other words, each detail left out with chance 1 − `detail`."""

    def said() -> bool:
        return rng.random() < detail

    head, _, more = thing.phrase.partition(" with " if thing.kind == "house" else " in ")
    if thing.kind == "person":
        return _person(rng, more, said(), said() and not colourless)
    adjectives, noun = _split(head, thing)
    kept = [
        _coloured(rng, word) if word in COLOUR_NAMES else _synonym(rng, word)
        for word in adjectives
        if (not colourless if word in COLOUR_NAMES else said())
    ]
    if thing.kind == "tree" and not said():
        noun = "tree"
    tail = f" with {more}" if more and said() and not colourless else ""
    return " ".join([*kept, _synonym(rng, noun)]) + tail


def _coloured(rng: np.random.Generator, colour: str) -> str:
    """ "red", rarely "red-coloured", in either spelling."""
    more = str(rng.choice([" coloured", "-coloured", " colored", "-colored"])) if rng.random() < 0.04 else ""
    return _synonym(rng, colour) + more


def _split(head: str, thing: Thing) -> tuple[list[str], str]:
    """Adjectives and noun of "striped red ball", "green pine tree"."""
    words = head.split()
    nouns = 2 if thing.kind == "tree" else 1
    return words[:-nouns], " ".join(words[-nouns:])


def _person(rng: np.random.Generator, more: str, posed: bool, dressed: bool) -> str:
    """From "a red shirt with raised arms": shirt and posture, or either, or neither."""
    colour = next(word for word in more.split() if word in COLOUR_NAMES)
    posture = more.partition(" shirt ")[2]
    noun = _synonym(rng, "person")
    if rng.random() < 0.4 and dressed:
        clothes = f"in {colour}" if rng.random() < 0.6 else f"wearing {with_article(colour)} shirt"
    else:
        clothes = f"in {with_article(colour)} shirt" if dressed else ""
    posture = posture if posed else ""
    if posture and not posture.startswith("with") and rng.random() < 0.3:
        return " ".join(filter(None, [posture, noun, clothes]))  # "running man in a red shirt"
    return " ".join(filter(None, [noun, clothes, posture]))


def _synonym(rng: np.random.Generator, word: str) -> str:
    return str(rng.choice(SYNONYMS[word])) if word in SYNONYMS else word


def _joined(rng: np.random.Generator, nouns: list[str], plain: bool) -> str:
    """One list; most keep the order from left to right, others have none, or say the places of two."""
    way = rng.random()
    if len(nouns) == 1:
        return nouns[0]
    if len(nouns) == 2 and way < 0.4:
        left, right = nouns
        said = {
            "to the left of": (left, right), "on the left of": (left, right), "left of": (left, right),
            "to the right of": (right, left), "on the right of": (right, left), "right of": (right, left),
            "next to": (left, right), "beside": (left, right), "near": (right, left), "and": (right, left),
        }  # fmt: skip
        relation = str(rng.choice(list(said)))
        return f"{said[relation][0]} {relation} {said[relation][1]}"
    if way > 0.75:
        nouns = [nouns[row] for row in rng.permutation(len(nouns))]
    if plain and rng.random() < 0.6:
        return str(rng.choice([", ", ", ", " "])).join(nouns)
    if rng.random() < 0.15:
        return " and ".join(nouns)
    return f"{', '.join(nouns[:-1])} and {nouns[-1]}"


def _with_setting(rng: np.random.Generator, words: str, world: World, plain: bool) -> str:
    """Behind, in front, or nowhere; a few wordings name the setting alone."""
    own = world.setting.phrases
    phrase = str(rng.choice([*own, *own, *SETTINGS[own[0]]]))
    label = str(rng.choice(LABELS[own[0]]))
    way = rng.random()
    if way < 0.02:
        return label
    if way < 0.37:
        return words
    if way < 0.47:
        return f"{phrase}, {words}"
    if way < 0.55 or (plain and way < 0.8):
        return f"{label}, {words}" if rng.random() < 0.4 else f"{words}, {label}"
    return f"{words} {phrase}"


def _typed(rng: np.random.Generator, words: str) -> str:
    """As fingers do it: capitals and a full stop, seldom."""
    way = rng.random()
    if way < 0.12:
        words = words[0].upper() + words[1:]
    elif way < 0.14:
        words = words.upper()
    elif way < 0.16:
        words = words.title()
    return words + "." if rng.random() < 0.08 else words
