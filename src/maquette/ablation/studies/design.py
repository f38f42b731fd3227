"""Four designs of ControlNet, and training sets of several sizes: fidelity under four kinds of prompt (v3 §4.1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette.ablation.bench import Bench
from maquette.ablation.cells import Cell, Finding, Found, Table
from maquette.ablation.request import Request
from maquette.evaluation.controlnet import evaluate
from maquette.evaluation.protocol import PROMPTS
from maquette.evaluation.provenance import provenance
from maquette.evaluation.report import Report, spread


@dataclass(frozen=True)
class Trainings:
    """Trains a ControlNet for each condition, each value of one setting and each seed, and evaluates it."""

    setting: str  # of the training

    def values(self, request: Request) -> tuple[str | int, ...]:
        return request.variants if self.setting == "variant" else request.sizes

    def cells(self, request: Request) -> list[Cell]:
        return [self._cell(request, *place) for place in self._places(request)]

    def _places(self, request: Request) -> Iterator[tuple[str, str | int, int]]:
        for condition in request.conditions:
            for value in self.values(request):
                for seed in range(request.seeds):
                    yield condition, value, seed

    def _cell(self, request: Request, condition: str, value: str | int, seed: int) -> Cell:
        settings = {"condition": condition, self.setting: value, "seed": seed}
        images = 2 * len(PROMPTS) * request.tested  # with and without control; the latter once for all, in truth
        encoded = int(value) if self.setting == "scenes" else request.scenes
        return Cell(f"{condition}-{value}-seed{seed}", settings, request.steps, encoded, images)

    def run(self, cell: Cell, bench: Bench) -> Finding:
        """Train and evaluate, as `maquette train` and `maquette evaluate` do. Raises `MaquetteError` as they do."""
        net = bench.trained(cell.name, **cell.settings)
        examples = bench.examples(cell.settings["condition"])
        report = evaluate(net, examples, bench.uncontrolled, shown=bench.six)
        numbers = numbers_of(report) | {"setup": provenance(bench.base, net, report.protocol)}
        shown = {name: images for name, images in report.pictures.items() if "no control" not in name}
        return Finding(numbers, bench.sheet(shown))

    def tables(self, request: Request, found: Found) -> list[Table]:
        return [table for condition in request.conditions for table in self._tables(request, condition, found)]

    def _tables(self, request: Request, condition: str, found: Found) -> Iterator[Table]:
        rows, between = [], []
        some = None
        for value in self.values(request):
            names = [f"{condition}-{value}-seed{seed}" for seed in range(request.seeds)]
            done = [found[name] for name in names if name in found]
            if done:
                some = done[0]
                rows.append([str(value), str(len(done)), *(spread(over_seeds(done, kind)) for kind in PROMPTS)])
                between.append([str(value), str(len(done)), *(between_seeds(done, kind) for kind in PROMPTS)])
        if some is None:
            return
        rows.append(["no control", "–", *(spread(some["without"][kind]) for kind in PROMPTS)])
        title = f"{condition}: {some['label']}, {request.tested} test scenes, ceiling {some['ceiling']:.3f}, floor "
        head = [self.setting, "trainings", *PROMPTS]
        yield Table(f"{title}{some['floor']:.3f}; mean ± deviation over scenes [95 % interval]", [head, *rows])
        yield Table(f"{condition}: mean ± deviation over trainings", [head, *between])


def numbers_of(report: Report) -> dict[str, object]:
    """A report as numbers: scores of each scene by kind of prompt."""
    return {
        "label": report.label,
        "ceiling": report.ceiling,
        "floor": report.floor,
        "mean": report.controlled,
        "scores": report.scores,
        "without": report.scores_without,
        "scenes": report.names,
    }


def over_seeds(done: list[dict[str, Any]], kind: str) -> list[float]:
    """The score of each scene, a mean over trainings; NaN (null) where there is nothing to score."""
    return [float(score) for score in np.array([cell["scores"][kind] for cell in done], float).mean(axis=0)]


def between_seeds(done: list[dict[str, Any]], kind: str) -> str:
    """The mean over trainings of their means, and the deviation between them."""
    means = [cell["mean"][kind] for cell in done]
    deviation = f"{np.std(means, ddof=1):.3f}" if len(means) > 1 else "–"
    return f"{np.mean(means):.3f} ± {deviation}"


DESIGN, PAIRS = Trainings("variant"), Trainings("scenes")
