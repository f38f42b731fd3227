"""What a study asks: its kinds of question, and the two designs that put them in an order for each rater."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from maquette.errors import MaquetteError

Kind = Literal["quality", "fidelity", "learn", "tell"]
"""Order by quality, order by fidelity, a labelled pair to learn from, and one image to be told from which method."""


@dataclass(frozen=True)
class Question:
    """One page of a rater: the methods whose images of an item are shown, in the order of display."""

    kind: Kind
    item: int
    shown: tuple[int, ...]
    truth: int | None = None  # the right label: 0 for A, 1 for B; only of "tell"


@dataclass(frozen=True)
class Ranking:
    """Order the images of all methods, first by one criterion, then by the other (section 6 of the paper, table 1).

    Each criterion is a block of its own, in an order drawn for each rater, so that no judgement lends to the next; half
    of the raters begin with fidelity. Quality is judged without the condition in sight.
    """

    items: int | None = None  # how many are drawn; None: all
    name = "ranking"

    def check(self, methods: int) -> None:
        """Raises `MaquetteError` for fewer than two methods or more than nine."""
        if not 2 <= methods <= 9:
            raise MaquetteError(
                f"A ranking compares 2 to 9 methods, not {methods}; give a folder of images for each of them."
            )

    def draw(self, available: int, seed: int) -> list[int]:
        """The items that are shown. Raises `MaquetteError` if there are fewer than wanted."""
        wanted = available if self.items is None else self.items
        if not 1 <= wanted <= available:
            raise MaquetteError(f"items is a number from 1 to {available}, the images of each method, not {wanted}.")
        return _permuted(np.random.default_rng(seed), available)[:wanted]

    def plan(self, items: int, methods: int, conditions: bool, rater: int, seed: int) -> list[Question]:
        """The questions of a rater: all by one criterion, then all by the other."""
        random = np.random.default_rng([seed, rater])
        criteria: list[Kind] = ["quality", "fidelity"] if conditions else ["quality"]
        if _turned(rater, seed):
            criteria.reverse()
        return [
            Question(kind, item, tuple(_permuted(random, methods)))
            for kind in criteria
            for item in _permuted(random, items)
        ]


@dataclass(frozen=True)
class Difference:
    """Learn two methods from labelled pairs, then tell for single images which of them made each (section 6).

    Half of the raters know the first method as A. For every question of a rater a fair coin decides whose image is
    shown: who sees no difference is right with probability 1/2 at each. No image to learn from is asked for.
    """

    pairs: int = 100
    questions: int = 200
    name = "difference"

    def check(self, methods: int) -> None:
        """Raises `MaquetteError` for other than two methods, or too few pairs or questions."""
        if methods != 2:
            raise MaquetteError(f"A test of the difference compares 2 methods, not {methods}; give two folders.")
        for name, count in (("pairs", self.pairs), ("questions", self.questions)):
            if count < 1:
                raise MaquetteError(f"{name} is a whole number of 1 or more, not {count}.")

    def draw(self, available: int, seed: int) -> list[int]:
        """The items that are shown: those to learn from, then the others. Raises `MaquetteError` for too few."""
        wanted = self.pairs + self.questions
        if wanted > available:
            raise MaquetteError(
                f"{self.pairs} pairs to learn from and {self.questions} questions take {wanted} images of each method, "
                f"and the folders hold {available}: generate more, or give --pairs and --questions."
            )
        return _permuted(np.random.default_rng(seed), available)[:wanted]

    def plan(self, items: int, methods: int, conditions: bool, rater: int, seed: int) -> list[Question]:
        """The questions of a rater: pairs, with A's image first, then single images."""
        random = np.random.default_rng([seed, rater])
        labels = (1, 0) if _turned(rater, seed) else (0, 1)
        learnt = [Question("learn", item, labels) for item in _permuted(random, self.pairs)]
        asked = [self.pairs + place for place in _permuted(random, items - self.pairs)]
        coins = [int(coin) for coin in random.integers(2, size=len(asked))]
        return learnt + [Question("tell", item, (labels[coin],), coin) for item, coin in zip(asked, coins, strict=True)]


Design = Ranking | Difference


def _permuted(random: np.random.Generator, count: int) -> list[int]:
    return [int(place) for place in random.permutation(count)]


def _turned(rater: int, seed: int) -> bool:
    """True for every other rater; the seed decides whether the first is one of them."""
    return bool((rater + np.random.default_rng([seed, 2**31]).integers(2)) % 2)


def check_answer(question: Question, value: Any) -> None:
    """Check an answer: the places of the images from best to worst, None for a pair seen, 0 or 1 for A or B.

    Raises `MaquetteError` for another.
    """
    places = list(range(len(question.shown)))
    whole = isinstance(value, list) and all(type(place) is int for place in value)
    if question.kind == "learn":
        good = value is None
    elif question.kind == "tell":
        good = type(value) is int and value in (0, 1)
    else:
        good = whole and sorted(value) == places
    if not good:
        wanted = {"learn": "null", "tell": "0 for A or 1 for B"}.get(question.kind, f"an order of the places {places}")
        raise MaquetteError(f"The answer to this question is {wanted}, not {str(value)[:40]!r}; load the page anew.")
