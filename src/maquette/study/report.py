"""A study's report: what its answers say, in Markdown and JSON, and every answer in CSV."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.errors import MaquetteError
from maquette.foundation.files import atomic_write
from maquette.study.precision import Precision
from maquette.study.ranks import Ranks, ranks_given
from maquette.study.store import Answer, Rater, Store


@dataclass(frozen=True)
class Report:
    """What the answers of the raters that count say."""

    facts: dict[str, Any]
    methods: tuple[str, ...]
    items: tuple[str, ...]
    raters: tuple[Rater, ...]
    counted: tuple[str, ...]
    answers: tuple[Answer, ...]
    result: Ranks | Precision

    @classmethod
    def of(cls, store: Store, unfinished: bool = False) -> "Report":
        """Report on a study, which may be running.

        Args:
            unfinished: whether the answers of raters who have not finished count too.

        Raises `MaquetteError` if no answer counts yet.
        """
        raters, answers = store.raters(), store.answers()
        names = {rater.name for rater in raters if rater.finished or unfinished}
        counted = [answer for answer in answers if answer.rater in names and answer.question.kind != "learn"]
        if not counted:
            begun = sum(rater.answered > 0 for rater in raters)
            advice = "" if unfinished or not begun else "; --unfinished counts their answers so far"
            raise MaquetteError(f"No rater has finished yet, {begun} of {len(raters)} have begun{advice}.")
        result: Ranks | Precision
        result = Precision.of(counted) if store.facts["design"] == "difference" else Ranks.of(counted, store.methods)
        return cls(
            store.facts,
            tuple(store.methods),
            tuple(store.items),
            tuple(raters),
            tuple(dict.fromkeys(answer.rater for answer in counted)),
            tuple(answers),
            result,
        )

    def markdown(self) -> str:
        """The result, who counted, and what the numbers mean."""
        return f"{self.result.markdown()}\n\n{self._who()}"

    def _who(self) -> str:
        finished = sum(rater.finished for rater in self.raters)
        left = sum(rater.answered > 0 and rater.name not in self.counted for rater in self.raters)
        said = f"{finished} of {len(self.raters)} raters have finished; the answers of {len(self.counted)} count"
        return f"{said}{f', those of {left} others who began do not' if left else ''}."

    def values(self) -> dict[str, Any]:
        """For JSON; what cannot be computed of so few is null."""
        return _without_nan(
            {
                "study": self.facts,
                "methods": list(self.methods),
                "items": len(self.items),
                "raters": {rater.name: {"answered": rater.answered, "asked": rater.asked} for rater in self.raters},
                "counted": list(self.counted),
                "result": self.result.values(),
            }
        )

    def table(self) -> str:
        """Every answer as CSV: a line for each image of a ranking, or each question of a test of the difference."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["rater", "question", "kind", "item", "method", "answer", "given"])
        for answer in self.answers:
            for method, value in _lines(answer):
                place, item = answer.place + 1, self.items[answer.question.item]
                row = [answer.rater, place, answer.question.kind, item, self.methods[method], value, answer.given]
                writer.writerow(row)
        return text.getvalue()

    def save(self, folder: Path) -> Sequence[Path]:
        """Write report.md, report.json and answers.csv; earlier ones are replaced."""
        texts = {
            "report.md": self.markdown() + "\n",
            "report.json": json.dumps(self.values(), indent=1) + "\n",
            "answers.csv": self.table(),
        }
        for name, text in texts.items():
            with atomic_write(folder / name) as path:
                path.write_text(text, "utf-8")
        return [folder / name for name in texts]


def _lines(answer: Answer) -> list[tuple[int, object]]:
    """Methods with what was said of them: their rank, or whether the one shown was told."""
    question = answer.question
    if question.kind == "learn":
        return []
    if question.kind == "tell":
        return [(question.shown[0], "right" if answer.value == question.truth else "wrong")]
    return [(method, rank) for method, rank in sorted(ranks_given(answer).items())]


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
