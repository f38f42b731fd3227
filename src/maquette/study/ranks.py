"""The result of a ranking: average ranks as in table 1 of the paper, and how far the raters agree."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maquette.metrics.intervals import Interval, bootstrap
from maquette.study.statistics import Average, bounds, kendalls_w
from maquette.study.store import Answer


@dataclass(frozen=True)
class Agreement:
    """Kendall's W, averaged over the items that two raters or more ranked, with a 95 % interval over items."""

    w: Interval
    chance: float  # its expectation if all guess
    items: int


@dataclass(frozen=True)
class Ranks:
    """Average ranks and agreement, by criterion."""

    methods: tuple[str, ...]
    averages: dict[str, tuple[Average, ...]]
    agreements: dict[str, Agreement]

    @classmethod
    def of(cls, answers: Sequence[Answer], methods: Sequence[str]) -> "Ranks":
        """Of all answers that count. Means and deviations are over raters, of each one's average over items."""
        kinds: list[str] = sorted({answer.question.kind for answer in answers}, reverse=True)  # quality, then fidelity
        ranks = {kind: _ranks([one for one in answers if one.question.kind == kind], len(methods)) for kind in kinds}
        averages = {
            kind: tuple(Average.of(column) for column in np.nanmean(each, axis=1).T) for kind, each in ranks.items()
        }
        return cls(tuple(methods), averages, {kind: _agreement(each) for kind, each in ranks.items()})

    def markdown(self) -> str:
        """The table, and a line on agreement for each criterion."""
        kinds = list(self.averages)
        head = ["method", *(cell for kind in kinds for cell in (kind, "95 %"))]
        rows = [head, ["---"] * len(head)]
        for place, method in enumerate(self.methods):
            cells = [(str(each[place]), each[place].bounds) for each in self.averages.values()]
            rows.append([method, *(cell for pair in cells for cell in pair)])
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        return f"{table}\n\n" + "\n".join(self._agreement_line(kind) for kind in kinds)

    def _agreement_line(self, kind: str) -> str:
        found = self.agreements[kind]
        if not found.items:
            return f"Agreement on {kind}: none to be had, since no item was ranked by two raters."
        return (
            f"Agreement on {kind}: Kendall's W {found.w.mean:.2f} ({bounds(found.w)}) over {found.items} items; "
            f"{found.chance:.2f} if all guessed."
        )

    def values(self) -> dict[str, Any]:
        """For JSON."""
        return {
            kind: {
                "methods": {method: one.values() for method, one in zip(self.methods, each, strict=True)},
                "kendalls_w": {
                    **asdict(self.agreements[kind].w),
                    "chance": self.agreements[kind].chance,
                    "items": self.agreements[kind].items,
                },
            }
            for kind, each in self.averages.items()
        }


def ranks_given(answer: Answer) -> dict[int, int]:
    """The rank of each method in one answer, by the method's number: 1 is worst, as in the paper."""
    shown = answer.question.shown
    return {shown[place]: len(shown) - order for order, place in enumerate(answer.value)}


def _ranks(answers: Sequence[Answer], methods: int) -> NDArray[np.floating]:
    """Ranks (raters, items, methods); NaN where a rater did not rank an item."""
    raters = {name: place for place, name in enumerate(dict.fromkeys(one.rater for one in answers))}
    items = {item: place for place, item in enumerate(dict.fromkeys(one.question.item for one in answers))}
    ranks = np.full((len(raters), len(items), methods), np.nan)
    for answer in answers:
        given = ranks_given(answer)
        ranks[raters[answer.rater], items[answer.question.item]] = [given[method] for method in range(methods)]
    return ranks


def _agreement(ranks: NDArray[np.floating]) -> Agreement:
    """Of ranks (raters, items, methods)."""
    by_item = [each[~np.isnan(each).any(axis=1)] for each in ranks.transpose(1, 0, 2)]
    several = [each for each in by_item if len(each) > 1]
    chance = float(np.mean([1 / len(each) for each in several])) if several else float("nan")
    found = bootstrap(np.array([kendalls_w(each) for each in several]))
    return Agreement(found, chance, len(several))
