"""Conflicting captions: nothing in them is what it is called, and everything else stays."""

from maquette.diorama.conflicting import conflicting
from maquette.diorama.things import COLOUR_NAMES
from maquette.diorama.wording import world_of


def test_every_thing_is_called_something_else_and_the_setting_stays() -> None:
    for seed in range(100):
        world = world_of(seed)
        text = conflicting(world, seed)
        setting = next(phrase for phrase in world.setting.phrases if text.endswith(phrase))
        nouns = text.removesuffix(setting).replace(" and ", ", ").split(", ")
        assert len(nouns) == len(world.things)
        for noun, thing in zip(nouns, world.things, strict=True):
            assert thing.kind not in noun
            named = [word for word in noun.split() if word in COLOUR_NAMES]
            assert not named or named[0] in thing.phrase.split()
        assert text == conflicting(world_of(seed), seed)
