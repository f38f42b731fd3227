"""Who is asked what: every method at every place, raters apart from each other, and the same by seed."""

from collections import Counter

import numpy as np
import pytest

from maquette.errors import MaquetteError
from maquette.study.design import Difference, Question, Ranking, check_answer


def test_a_rater_ranks_every_item_once_by_each_criterion() -> None:
    questions = Ranking().plan(20, 5, True, 0, seed=1)
    assert len(questions) == 40
    kinds = [question.kind for question in questions]
    assert len(set(kinds[:20])) == len(set(kinds[20:])) == 1  # a block each
    for kind in ("quality", "fidelity"):
        assert sorted(one.item for one in questions if one.kind == kind) == list(range(20))
    assert all(sorted(question.shown) == list(range(5)) for question in questions)
    assert {one.kind for one in Ranking().plan(20, 5, False, 0, seed=1)} == {"quality"}


def test_methods_stand_at_every_place_equally_often() -> None:
    """A place says nothing: over 64 raters each method stands at each as often as by chance, within 4 deviations."""
    plans = [Ranking().plan(20, 5, True, rater, seed=3) for rater in range(64)]
    shown = np.array([question.shown for plan in plans for question in plan])
    counts = np.array([np.bincount(column, minlength=5) for column in shown.T])
    expected, deviation = len(shown) / 5, np.sqrt(len(shown) * 0.2 * 0.8)
    assert (abs(counts - expected) < 4 * deviation).all()


def test_orders_follow_from_the_seed_and_differ_between_raters() -> None:
    plans = [Ranking().plan(20, 5, True, rater, seed) for seed in (1, 2) for rater in range(8)]
    assert plans == [Ranking().plan(20, 5, True, rater, seed) for seed in (1, 2) for rater in range(8)]
    assert len({tuple(plan) for plan in plans}) == 16
    assert sum(plan[0].kind == "quality" for plan in plans[:8]) == 4  # half begin with each criterion


def test_a_difference_is_asked_by_fair_coins_of_images_not_learnt_from() -> None:
    plans = [Difference(100, 200).plan(300, 2, True, rater, seed=2) for rater in range(12)]
    for plan in plans:
        learnt, asked = plan[:100], plan[100:]
        assert {one.kind for one in learnt} == {"learn"} and {one.kind for one in asked} == {"tell"}
        assert not {one.item for one in learnt} & {one.item for one in asked}
        assert len({one.item for one in asked}) == 200
        (labels,) = {one.shown for one in learnt}
        assert all(one.shown == (labels[one.truth],) for one in asked)
    coins = [one.truth for plan in plans for one in plan[100:]]
    assert abs(np.mean(coins) - 0.5) < 4 * 0.5 / np.sqrt(len(coins))
    assert Counter(plan[0].shown for plan in plans) == {(0, 1): 6, (1, 0): 6}


def test_items_are_drawn_by_seed() -> None:
    drawn = Ranking(20).draw(100, seed=4)
    assert drawn == Ranking(20).draw(100, seed=4) != Ranking(20).draw(100, seed=5)
    assert len(set(drawn)) == 20
    assert sorted(Ranking().draw(7, seed=4)) == list(range(7))


@pytest.mark.parametrize(
    ("kind", "value", "good"),
    [
        ("quality", [2, 0, 1], True),
        ("quality", [2, 0], False),
        ("quality", [0, 0, 1], False),
        ("quality", [2, 0, True], False),
        ("fidelity", "210", False),
        ("fidelity", None, False),
        ("learn", None, True),
        ("learn", 0, False),
        ("tell", 1, True),
        ("tell", 2, False),
        ("tell", True, False),
    ],
)
def test_answers_are_checked(kind, value, good) -> None:
    question = Question(kind, 0, (1, 0, 2))
    if good:
        check_answer(question, value)
    else:
        with pytest.raises(MaquetteError, match=r"^The answer to this question is "):
            check_answer(question, value)
