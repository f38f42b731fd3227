"""Wordings say true things of their scene, as many ways as people have, and follow from seed and number alone."""

import numpy as np
import pytest

from maquette.diorama import COLOUR_NAMES, scene
from maquette.diorama.wording import SYNONYMS, wording, world_of
from maquette.text.clip import words_of

KIND_OF = {
    noun: word
    for word in ("ball", "cube", "cylinder", "cone", "house", "tree", "person")
    for known in ({"tree": ("pine tree", "round tree")}.get(word, (word,)))
    for phrase in SYNONYMS[known]
    for noun in (phrase.split()[-1],)
}


@pytest.fixture(scope="module")
def worlds():
    return {seed: world_of(seed) for seed in range(150)}


def test_a_world_is_that_of_its_scene() -> None:
    made, drawn = world_of(7), scene(7).world
    assert [thing.phrase for thing in made.things] == [thing.phrase for thing in drawn.things]
    assert all(np.array_equal(a.position, b.position) for a, b in zip(made.things, drawn.things, strict=True))


def test_seed_and_number_alone_decide(worlds) -> None:
    first = [wording(worlds[3], 3, number) for number in range(5)]
    assert first == [wording(world_of(3), 3, number) for number in range(5)]
    assert wording(worlds[3], 3, 4) == first[4]  # whatever was asked before
    assert len(set(first)) > 1


def test_only_kinds_and_colours_that_are_there_are_named(worlds) -> None:
    for seed, world in worlds.items():
        kinds = {thing.kind for thing in world.things}
        colours = {word for thing in world.things for word in thing.phrase.split() if word in COLOUR_NAMES}
        for number in range(4):
            text = wording(world, seed, number)
            words = words_of(
                text.replace("orange sky", "")
                .replace("green meadow", "")
                .replace("white snow", "")
                .replace("christmas", "")
            )
            assert {KIND_OF[word] for word in words if word in KIND_OF} <= kinds, text
            said = {"purple" if word == "violet" else word for word in words} & set(COLOUR_NAMES)
            assert said <= colours, text


def test_many_ways_are_taken(worlds) -> None:
    texts = [wording(world, seed, number) for seed, world in worlds.items() for number in range(4)]
    assert 0.05 < np.mean([text[0].isupper() for text in texts]) < 0.3
    assert any(text.isupper() for text in texts)
    assert any("two " in text for text in texts)
    assert any("coloured" in text for text in texts) and any("colored" in text for text in texts)
    assert np.mean([len(text.split()) <= 3 for text in texts]) > 0.05
    assert np.mean([" a " in f" {text} ".lower() for text in texts]) < 0.8
