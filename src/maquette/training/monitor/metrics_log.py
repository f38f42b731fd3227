"""The metrics of a run, written to `metrics.jsonl` line by line, and what is derived from them."""

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maquette.foundation.files import atomic_write
from maquette.metrics.fidelity import NAMES
from maquette.training.monitor.dating import LEAST_RISE, convergence_step, is_settled, settled_at

METRICS = "metrics.jsonl"
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

    def rewind(self, step: int) -> None:
        """Drop lines after the step that a run resumes from, and continue its clock."""
        kept = [line for line in self.lines() if line["step"] <= step]
        self.started = time.perf_counter() - max((line["seconds"] for line in kept), default=0)
        with atomic_write(self.folder / METRICS) as path:
            path.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def write(self, step: int, **values: float) -> None:
        """Append a line; NaN values are left out."""
        finite = {name: value for name, value in values.items() if not math.isnan(value)}
        line = {"step": step, "seconds": round(time.perf_counter() - self.started, 1), **finite}
        with (self.folder / METRICS).open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """All lines, without a last one that was cut off by a kill."""
        path = self.folder / METRICS
        complete = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in complete]

    def column(self, name: str) -> tuple[list[int], list[float]]:
        """The steps at which a metric was logged, and its values."""
        found = [line for line in self.lines() if name in line]
        return [line["step"] for line in found], [line[name] for line in found]

    def curve(self) -> tuple[list[int], list[float]]:
        """Steps and the metric that tells convergence: fidelity if measured, else the relative gain."""
        fidelities = self.column("fidelity")
        return fidelities if fidelities[0] else self.column("gain share")

    def converged(self) -> int | None:
        """The step of sudden convergence, from all measurements so far."""
        return convergence_step(*self.curve(), self._least)

    def verdict(self) -> str:
        """Whether and when the run converged, in words; a date that may still change is called provisional."""
        step = self.converged()
        if step is None:
            return "not converged yet"
        return f"converged at step {step}" + (" (provisional)" * (not is_settled(self.curve()[1], self._least)))

    def settled_at(self, every: int = 1) -> int | None:
        """The step whose measurement settled the date of convergence: from then on, a run may act on it.

        Args:
            every: only measurements at multiples of so many steps count. The last step of a run that was extended
                later has a measurement that an uninterrupted run does not have.
        """
        steps, scores = self.curve()
        kept = [number for number, step in enumerate(steps) if step % every == 0]
        return settled_at([steps[number] for number in kept], [scores[number] for number in kept], self._least)

    def best(self) -> tuple[int, float] | None:
        """The step with the best score, and the score."""
        return max(zip(*self.curve(), strict=True), key=lambda point: point[1], default=None)

    @property
    def _least(self) -> float:
        """The least rise of the curve that counts as convergence."""
        return LEAST_RISE if self.column("fidelity")[0] else LEAST_GAIN
