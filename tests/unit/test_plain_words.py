"""The score for plain prompts: what it names exists, and its interval is that of a mean."""

import numpy as np

from maquette.diorama import CLASSES, COLOUR_NAMES
from maquette.evaluation.plain_words import PROMPTS, judge
from maquette.metrics.intervals import bootstrap


def test_fifty_prompts_name_kinds_and_colours_of_the_diorama() -> None:
    assert len(PROMPTS) == 50
    named = {one for things in PROMPTS.values() for one in things}
    assert {kind for kind, _ in named} <= set(CLASSES[3:])
    assert {colour for _, colour in named} <= {"", *COLOUR_NAMES}


def test_a_thing_is_found_and_coloured_by_its_pixels() -> None:
    classes, colours = np.zeros((2, 128, 128), np.uint8)
    classes[:6, :6] = CLASSES.index("ball")
    colours[:6, :6] = 1 + COLOUR_NAMES.index("red")
    assert judge(classes, colours, "ball", "red") == (True, True)
    assert judge(classes, colours, "ball", "blue") == (True, False)
    assert judge(classes, colours, "cube", "red") == (False, False)


def test_the_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(1).random(400)
    score, error = bootstrap(values), 1.96 * values.std() / 20
    assert score.mean == values.mean()
    assert abs(score.low - (score.mean - error)) < 0.005
    assert abs(score.high - (score.mean + error)) < 0.005
