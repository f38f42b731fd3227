"""The metrics of a run, written to `metrics.jsonl` line by line, and what is derived from them.

A saved state holds the lines up to its step, and they are written anew when the run is resumed. So the file may be
damaged or lost between, as by a power cut.
"""

import json
import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maquette.errors import MaquetteWarning
from maquette.foundation.files import atomic_write
from maquette.metrics.change_point import noise_of_mean
from maquette.metrics.fidelity import NAMES
from maquette.training.monitor.dating import LEAST_RISE, convergence_step, is_settled, settled_at

METRICS = "metrics.jsonl"
SAVED = "saved"  # a column: the steps after which a state was saved
Line = dict[str, Any]  # step, seconds, and values by name
SCENES = "fidelity of each"  # a column: of the held-out pairs that have one, in [0, 1]; null for the others
LONGEST = 10**12  # steps or seconds that a run may take
LEAST_GAIN = 0.01  # relative reduction of the loss that counts as convergence without a fidelity metric


@dataclass
class Log:
    """The metrics log of a run."""

    folder: Path
    condition: str
    label: str | None = None  # of the score; by default that of the diorama's condition
    started: float = field(default_factory=time.perf_counter)

    @property
    def score(self) -> str:
        """The name of the fidelity metric."""
        return self.label or NAMES.get(self.condition, "fidelity")

    def rewind(self, step: int, saved: Sequence[Line] | None = None) -> None:
        """Go back to the step that a run resumes from: its lines up to there, and its clock.

        Args:
            saved: the lines that its state holds; None takes those of the file.

        Warns of lines that are damaged or lost.
        """
        found, junk = self._read()
        kept = [line for line in found if line["step"] <= step]
        lost = [line for line in saved or () if line not in kept]
        if junk or lost:
            ending = "" if saved is None else f"; those up to step {step} are restored from the state"
            warnings.warn(
                f"{junk} lines of {str(self.folder / METRICS)!r} are damaged and {len(lost)} are lost{ending}.",
                MaquetteWarning,
                stacklevel=3,
            )
        kept = [*(kept if saved is None else saved)]
        seconds = max((line["seconds"] for line in kept), default=0)
        self.started = time.perf_counter() - seconds
        if step and not any(SAVED in line for line in kept):
            kept.append({"step": step, "seconds": seconds, SAVED: 1})
        with atomic_write(self.folder / METRICS) as path:
            path.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def write(self, step: int, each: Sequence[float] = (), **values: float) -> None:
        """Append a line; NaN values are left out.

        Args:
            each: the fidelity of each held-out pair.
        """
        finite = {name: value for name, value in values.items() if not math.isnan(value)}
        scores = [None if math.isnan(score) else round(score, 4) for score in each]
        line: Line = {"step": step, "seconds": round(time.perf_counter() - self.started, 1), **finite}
        line |= {SCENES: scores} if scores else {}
        with (self.folder / METRICS).open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def lines(self) -> list[Line]:
        """All lines, without damaged ones and a last one that was cut off by a kill."""
        return self._read()[0]

    def _read(self) -> tuple[list[Line], int]:
        """The lines of the file, and how many are damaged."""
        path = self.folder / METRICS
        complete = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
        lines = [line for line in map(_parsed, complete) if line is not None]
        return lines, len(complete) - len(lines)

    def column(self, name: str) -> tuple[list[int], list[float]]:
        """The steps at which a metric was logged, and its values."""
        found = [line for line in self.lines() if name in line]
        return [line["step"] for line in found], [line[name] for line in found]

    def curve(self) -> tuple[list[int], list[float]]:
        """Steps and the metric that tells convergence: fidelity if measured, else the relative gain."""
        fidelities = self.column("fidelity")
        return fidelities if fidelities[0] else self.column("gain share")

    def of_each(self) -> tuple[list[int], NDArray[np.float64]]:
        """Steps, and the fidelity (n, pairs) of each held-out pair, NaN where it has none; n is 0 in runs of 0.2."""
        found = [line for line in self.lines() if SCENES in line]
        found = [line for line in found if len(line[SCENES]) == len(found[-1][SCENES])]
        scores = [[math.nan if score is None else score for score in line[SCENES]] for line in found]
        return [line["step"] for line in found], np.array(scores, float)

    def converged(self) -> int | None:
        """The step of sudden convergence, from all measurements so far."""
        steps, scores, noise = self._with_noise()
        return convergence_step(steps, scores, self._least, noise)

    def verdict(self) -> str:
        """Whether and when the run converged, in words; a date that may still change is called provisional."""
        dated = self.dated()
        if dated is None:
            return "not converged yet"
        step, settled = dated
        return f"converged at step {step}" + " (provisional)" * (not settled)

    def dated(self) -> tuple[int, bool] | None:
        """The step of sudden convergence and whether that date has settled; None before there is one."""
        steps, scores, noise = self._with_noise()
        step = convergence_step(steps, scores, self._least, noise)
        return None if step is None else (step, is_settled(scores, self._least, noise))

    def settled_at(self, every: int = 1) -> int | None:
        """The step whose measurement settled the date of convergence: from then on, a run may act on it.

        Args:
            every: only measurements at multiples of so many steps count. The last step of a run that was extended
                later has a measurement that an uninterrupted run does not have.
        """
        steps, scores, noise = self._with_noise(every)
        return settled_at(steps, scores, self._least, noise)

    def best(self) -> tuple[int, float] | None:
        """The step with the best score, and the score."""
        return max(zip(*self.curve(), strict=True), key=lambda point: point[1], default=None)

    def _with_noise(self, every: int = 1) -> tuple[list[int], list[float], list[float] | None]:
        """The curve at multiples of so many steps, and its noise as far as the pairs tell it with each measurement."""
        kept = [(step, score) for step, score in zip(*self.curve(), strict=True) if step % every == 0]
        steps, scores = [step for step, _ in kept], [score for _, score in kept]
        of_each = {step: each for step, each in zip(*self.of_each(), strict=True) if step % every == 0}
        if not kept or list(of_each) != steps:
            return steps, scores, None
        each = np.array(list(of_each.values()))
        return steps, scores, [noise_of_mean(each[:end]) for end in range(1, len(each) + 1)]

    @property
    def _least(self) -> float:
        """The least rise of the curve that counts as convergence."""
        return LEAST_RISE if self.column("fidelity")[0] else LEAST_GAIN


def _parsed(text: bytes) -> Line | None:
    """A line of the file; None if it is none of ours."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not all(_is_value(name, value) for name, value in line.items()):
        return None
    timed = {"step", "seconds"} <= line.keys() and isinstance(line["step"], int)
    return line if timed and 0 <= line["step"] <= LONGEST and 0 <= line["seconds"] <= LONGEST else None


def _is_value(name: str, value: object) -> bool:
    """Whether a column may hold a value: numbers, and a list of them for the pairs' scores."""
    if name != SCENES:
        return _is_number(value)
    return isinstance(value, list) and all(score is None or _is_number(score) for score in value)


def _is_number(value: object) -> bool:
    """Whether a value is one that arithmetic takes: a whole number of hundreds of digits is none."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= LONGEST)
