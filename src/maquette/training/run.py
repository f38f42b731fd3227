"""A run's folder: what it writes while it trains."""

import json
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maquette.errors import MaquetteWarning
from maquette.foundation.files import written_whole
from maquette.training.convergence import takes_hold

METRICS, CURVE, STATE, CONFIG = "metrics.jsonl", "curve.png", "state.pt", "training.json"


@dataclass
class Log:
    """Lines of `metrics.jsonl`, and the curve drawn from them."""

    folder: Path
    title: str
    score: str  # what fidelity is called
    started: float = field(default_factory=time.perf_counter)

    def rewind(self, step: int) -> None:
        """Forget what was written after a step that a resumed run goes back to, and go on with its clock."""
        kept = [line for line in self.lines() if line["step"] <= step]
        self.started = time.perf_counter() - max((line["seconds"] for line in kept), default=0)
        with written_whole(self.folder / METRICS) as path:
            path.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def write(self, step: int, **values: float) -> None:
        line = {"step": step, "seconds": round(time.perf_counter() - self.started, 1), **values}
        with (self.folder / METRICS).open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """What was written; a last line that a kill cut off is left out."""
        path = self.folder / METRICS
        whole = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in whole]

    def curve(self) -> tuple[list[int], list[float]]:
        """Steps and fidelities so far."""
        measured = [line for line in self.lines() if "fidelity" in line]
        return [line["step"] for line in measured], [line["fidelity"] for line in measured]

    def converged(self) -> int | None:
        return takes_hold(*self.curve())

    def draw(self) -> Path | None:
        """Plot fidelity and loss over steps, the step of sudden convergence marked; a note without matplotlib."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            words = "No curve.png without matplotlib: pip install 'maquette[train]'; metrics.jsonl has its numbers."
            warnings.warn(words, MaquetteWarning, stacklevel=3)
            return None
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(*self.curve(), marker="o", markersize=3, color="tab:blue", label=f"{self.score}, no prompt")
        axes.set(xlabel="optimiser steps", ylabel=self.score, title=self.title, ylim=(0, 1))
        losses = [line for line in self.lines() if "loss" in line]
        other = axes.twinx()
        other.plot([x["step"] for x in losses], [x["loss"] for x in losses], color="tab:gray", alpha=0.6, label="loss")
        measured = [line for line in self.lines() if "gain" in line]
        gains = [line["gain"] for line in measured]
        other.plot([line["step"] for line in measured], gains, color="tab:green", linestyle=":", label="gain")
        other.set_ylabel("loss, and what control takes off it")
        step = self.converged()
        if step is not None:
            axes.axvline(step, color="tab:red", linestyle="--", label=f"takes hold at step {step}")
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(self.folder / CURVE, dpi=110)
        return self.folder / CURVE
