"""What a run writes down while it trains: a line of `metrics.jsonl` at a time, and what follows from the lines."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maquette.foundation.files import atomic_write
from maquette.metrics.fidelity import NAMES
from maquette.training.monitor.convergence import convergence_step

METRICS = "metrics.jsonl"
LEAST_GAIN = 0.01  # share of the loss that control takes off, where no metric scores the condition


@dataclass
class Log:
    folder: Path
    condition: str
    started: float = field(default_factory=time.perf_counter)

    @property
    def score(self) -> str:
        """What fidelity is called."""
        return NAMES.get(self.condition, "fidelity")

    def rewind(self, step: int) -> None:
        """Forget what was written after a step that a resumed run goes back to, and go on with its clock."""
        kept = [line for line in self.lines() if line["step"] <= step]
        self.started = time.perf_counter() - max((line["seconds"] for line in kept), default=0)
        with atomic_write(self.folder / METRICS) as path:
            path.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def write(self, step: int, **values: float) -> None:
        """Add a line; what is no number is left out."""
        known = {name: value for name, value in values.items() if not math.isnan(value)}
        line = {"step": step, "seconds": round(time.perf_counter() - self.started, 1), **known}
        with (self.folder / METRICS).open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """What was written; a last line that a kill cut off is left out."""
        path = self.folder / METRICS
        whole = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in whole]

    def column(self, name: str) -> tuple[list[int], list[float]]:
        """Steps at which something was written, and its values."""
        found = [line for line in self.lines() if name in line]
        return [line["step"] for line in found], [line[name] for line in found]

    def curve(self) -> tuple[list[int], list[float]]:
        """Steps and what tells whether the condition has taken hold: fidelity, or else the share of the loss."""
        fidelities = self.column("fidelity")
        return fidelities if fidelities[0] else self.column("gain share")

    def converged(self) -> int | None:
        """The step of sudden convergence, by all that was measured."""
        return self._holds(*self.curve())

    def convergence_detected_at(self) -> int | None:
        """The step at whose measurement the convergence could first be told, which an earlier one may be called."""
        (steps, scores), holds = self.curve(), self._holds
        seen = (step for number, step in enumerate(steps) if holds(steps[: number + 1], scores[: number + 1]))
        return next(seen, None)

    def best(self) -> tuple[int, float] | None:
        """The step that measured best, and its score."""
        return max(zip(*self.curve(), strict=True), key=lambda point: point[1], default=None)

    @property
    def _holds(self) -> Callable[[list[int], list[float]], int | None]:
        least = 0.05 if self.column("fidelity")[0] else LEAST_GAIN
        return lambda steps, scores: convergence_step(steps, scores, least)
