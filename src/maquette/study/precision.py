"""The result of a test of the difference: how often raters told two methods apart, and whether that is luck."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette.study.statistics import Average, binomial_p
from maquette.study.store import Answer


@dataclass(frozen=True)
class Told:
    """How many questions of how many were answered right, by one rater or by all."""

    right: int
    asked: int

    @property
    def precision(self) -> float:
        return self.right / self.asked

    @property
    def p(self) -> float:
        """The probability of so many or so few right answers if all are guessed (exact binomial test, two-sided)."""
        return binomial_p(self.right, self.asked)


@dataclass(frozen=True)
class Precision:
    """Precision by rater, and its average as the paper prints it (0.52 ± 0.17)."""

    raters: dict[str, Told]

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> "Precision":
        """Of all answers that count; the pairs learnt from do not."""
        told: dict[str, list[bool]] = {}
        for answer in answers:
            if answer.question.kind == "tell":
                told.setdefault(answer.rater, []).append(answer.value == answer.question.truth)
        return cls({rater: Told(sum(right), len(right)) for rater, right in told.items()})

    @property
    def average(self) -> Average:
        """Over raters."""
        return Average.of(np.array([told.precision for told in self.raters.values()]))

    @property
    def together(self) -> Told:
        """All raters' answers, as if independent."""
        return Told(sum(one.right for one in self.raters.values()), sum(one.asked for one in self.raters.values()))

    def markdown(self) -> str:
        """A sentence, and a table of the raters."""
        together, average = self.together, self.average
        rows = [f"| {name} | {one.right} of {one.asked} | {_p(one.p)} |" for name, one in self.raters.items()]
        first = (
            f"Precision {average} over {len(self.raters)} raters (95 %: {average.bounds}); 0.50 is guessing. "
            f"{together.right} of {together.asked} answers are right (two-sided exact binomial test: p "
            f"{_p(together.p, '= ')})."
        )
        return "\n".join([first, "", "| rater | right | p |", "| --- | --- | --- |", *rows])

    def values(self) -> dict[str, Any]:
        """For JSON."""
        together, average = self.together, self.average
        return {
            "precision": average.values(),
            "right": together.right,
            "asked": together.asked,
            "p": together.p,
            "raters": {name: {"right": one.right, "asked": one.asked, "p": one.p} for name, one in self.raters.items()},
        }


def _p(probability: float, equals: str = "") -> str:
    return "< 0.0001" if probability < 1e-4 else f"{equals}{probability:.4f}"
