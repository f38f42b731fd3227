"""The result of an evaluation: scores with intervals, as a table, JSON, CSV and Markdown."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maquette.evaluation.protocol import Protocol
from maquette.foundation.files import atomic_write
from maquette.metrics.intervals import Interval, bootstrap

Scores = dict[str, list[float]]
"""A measure of each image by kind of prompt; NaN where there is nothing to score. A condition's score is in [0, 1]."""

LOWER = ("depth RMSE", "angle of normals, °", "FID", "KID")
"""How the names of those begin that are better when lower."""


@dataclass(frozen=True)
class Report:
    """Scores of one ControlNet, in [0, 1]."""

    condition: str
    protocol: Protocol
    ceiling: float  # score of the scenes themselves, encoded and decoded
    floor: float  # score of the scenes in another order: images independent of the condition
    controlled: dict[str, float]  # mean fidelity by kind of prompt
    uncontrolled: dict[str, float]  # the same prompts and noise without control
    label: str = "fidelity"
    kind: str = "unseen scenes"
    names: list[str] = field(default_factory=list)  # of the scenes or pairs
    scores: Scores = field(default_factory=dict)  # of each image with control
    scores_without: Scores = field(default_factory=dict)
    more: dict[str, Scores] = field(default_factory=dict)  # further measures by label
    more_without: dict[str, Scores] = field(default_factory=dict)
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)  # ceiling and floor of further measures
    sets: dict[str, dict[str, Interval]] = field(default_factory=dict)  # of all images together: by metric, then kind
    sets_without: dict[str, dict[str, Interval]] = field(default_factory=dict)
    prompts: dict[str, list[str]] = field(default_factory=dict)  # by kind
    pictures: dict[str, list[Image.Image]] = field(default_factory=dict)  # the first ones, by what they are
    setup: dict[str, Any] = field(default_factory=dict)  # everything else that the numbers depend on

    @property
    def intervals(self) -> dict[str, Interval]:
        """The means with control and their 95 % intervals, by kind of prompt: a bootstrap over the images."""
        return {kind: bootstrap(np.array(scores)) for kind, scores in self.scores.items()}

    def table(self) -> str:
        """The scores as a Markdown table."""
        lines = [
            f"{self.label}, {self.protocol.scenes} {self.kind}: ceiling {self.ceiling:.3f}, floor {self.floor:.3f}",
            "",
            "| prompt | with control | 95 % interval | between floor and ceiling | without |",
            "| --- | --- | --- | --- | --- |",
        ]
        intervals = self.intervals
        for prompt in self.controlled:
            score, spread = self.controlled[prompt], intervals[prompt]
            span = self.ceiling - self.floor
            share = f"{(score - self.floor) / span:.2f}" if span > 0 else "–"
            ends = f"{spread.low:.3f} to {spread.high:.3f}"
            cells = (f"{score:.3f}", ends, share, f"{self.uncontrolled[prompt]:.3f}")
            lines.append(f"| {prompt} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def further(self) -> list[list[str]]:
        """The further measures and those of all images together, as rows of texts; the first is the head."""
        kinds = list(self.controlled)
        rows = [["measure", *kinds, "without: " + kinds[0], *kinds[1:], "ceiling", "floor"]]
        for label, scores in self.more.items():
            cells = [spread(values) for values in (*scores.values(), *self.more_without[label].values())]
            rows.append([_named(label), *cells, *map(_number, self.bounds.get(label, (math.nan, math.nan)))])
        for label, found in self.sets.items():
            both = (*found.values(), *self.sets_without[label].values())
            cells = [f"{_number(one.mean)} [{_number(one.low)}, {_number(one.high)}]" for one in both]
            rows.append([_named(label), *cells, "–", "–"])
        return rows if len(rows) > 1 else []

    def markdown(self) -> str:
        """Every table, and what the numbers depend on."""
        parts = [f"# {self.condition}", self.table()]
        if rows := self.further():
            parts.append(markdown_table(rows))
            parts.append("Means ± standard deviation over the images; of whole sets, values with their 95 % interval.")
        return "\n\n".join([*parts, "## How it was measured", markdown_table(self.facts())]) + "\n"

    def facts(self) -> list[list[str]]:
        """What the numbers depend on, as rows of texts; the first is the head."""
        known = {key: value for key, value in flat(self.setup).items() if value is not None}
        return [["of", "what"], *([key, str(value)] for key, value in known.items())]

    def save(self, path: Path) -> None:
        """Write the report as JSON, and the measures of each image beside it as CSV, atomically."""
        values = {
            **{name: getattr(self, name) for name in ("condition", "ceiling", "floor", "controlled", "uncontrolled")},
            "label": self.label,
            "kind": self.kind,
            "protocol": vars(self.protocol),
            "intervals": {kind: asdict(score) for kind, score in self.intervals.items()},
            "measures": {label: self._measure(label) for label in self.more},
            "sets": {
                label: {"controlled": _plain(found), "uncontrolled": _plain(self.sets_without[label])}
                for label, found in self.sets.items()
            },
            "setup": self.setup,
        }
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(finite(values), indent=2, ensure_ascii=False) + "\n", "utf-8")
        with atomic_write(path.with_suffix(".csv")) as temporary, temporary.open("w", newline="") as stream:
            csv.writer(stream).writerows(self._rows())

    def _measure(self, label: str) -> dict[str, Any]:
        ceiling, floor = self.bounds.get(label, (math.nan, math.nan))
        sides = {"controlled": self.more[label], "uncontrolled": self.more_without[label]}
        summed = {
            side: {kind: {**asdict(bootstrap(np.array(one))), "deviation": _deviation(one)} for kind, one in by.items()}
            for side, by in sides.items()
        }
        better = "lower" if label.startswith(LOWER) else "higher"
        return {"better": better, "ceiling": ceiling, "floor": floor, **summed}

    def _rows(self) -> list[list[str]]:
        """A row of texts for each image; the first is the head."""
        head = [self.kind, "prompt", "with control", "without"]
        head += [f"{label}{side}" for label in self.more for side in ("", ", without")] + ["text"] * bool(self.prompts)
        rows = [head]
        for kind, scores in self.scores.items():
            columns = [scores, self.scores_without[kind]]
            columns += [by[label][kind] for label in self.more for by in (self.more, self.more_without)]
            texts = self.prompts.get(kind, [])
            for number, name in enumerate(self.names):
                numbers = [f"{column[number]:.6f}" for column in columns]
                rows.append([name, kind, *numbers, *texts[number : number + 1]])
        return rows


def _plain(found: dict[str, Interval]) -> dict[str, dict[str, float]]:
    return {kind: asdict(one) for kind, one in found.items()}


def finite(values: Any) -> Any:
    """The same with null for NaN, which JSON has no word for."""
    if isinstance(values, dict):
        return {key: finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _named(label: str) -> str:
    return f"{label} (lower is better)" if label.startswith(LOWER) else label


def _deviation(scores: Sequence[float]) -> float:
    known = np.asarray(scores, float)
    known = known[~np.isnan(known)]
    return float(known.std(ddof=1)) if len(known) > 1 else math.nan


def spread(scores: Sequence[float]) -> str:
    """Mean ± standard deviation, as the paper prints them, and the mean's 95 % interval."""
    found = bootstrap(np.asarray(scores, float))
    if math.isnan(found.mean):
        return "–"
    return f"{found.mean:.3f} ± {_deviation(scores):.3f} [{found.low:.3f}, {found.high:.3f}]"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings by their names joined with a dot."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{before}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of texts as a Markdown table; the first is the head."""
    head, *others = ([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *others))
