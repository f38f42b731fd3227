"""Sudden convergence: every held-out scene scored for itself, every few steps, over seeds and levers (v3 §3.3)."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from maquette.ablation.bench import NETS, Bench
from maquette.ablation.cells import Cell, Finding, Found, Table
from maquette.ablation.request import Request
from maquette.ablation.suddenness import suddenness
from maquette.evaluation.provenance import provenance
from maquette.foundation.declared import settings_of
from maquette.foundation.images import as_rgb, open_image
from maquette.training.config import TrainingConfig
from maquette.training.monitor.convergence import SHOWN, STEPS
from maquette.training.monitor.metrics_log import Log

USUAL = "usual"
SHEET = 3 * SHOWN  # images at each measurement, beside one for each scene: the other kinds of prompt


class Convergence:
    """Trains with measurements every few steps, and reads the run's own log."""

    def cells(self, request: Request) -> list[Cell]:
        measured = 1 + request.steps // request.every
        return [
            Cell(
                name,
                {"condition": condition, "seed": seed, **lever},
                request.steps,
                request.scenes,
                measured * (request.tested + SHEET) * STEPS // 20,
            )
            for condition in request.conditions
            for lever_name, lever in levers(request)
            for seed in range(request.seeds)
            for name in [f"{condition}-{lever_name}-seed{seed}"]
        ]

    def run(self, cell: Cell, bench: Bench) -> Finding:
        """Raises `MaquetteError` as `train` does."""
        request = bench.request
        net = bench.trained(cell.name, **cell.settings, evaluate_every=request.every, held_out=request.tested)
        folder = request.output / NETS / cell.name
        steps, scores = Log(folder, cell.settings["condition"]).of_each()
        kept = [number for number, step in enumerate(steps) if step % request.every == 0]
        steps, scores = [steps[number] for number in kept], scores[kept]
        numbers = suddenness(steps, scores) | {
            "steps": steps,
            "scores": scores.tolist(),
            "setup": provenance(bench.base, net, bench.protocol),
        }
        grids = sorted((folder / "grids").glob("step-*.png"))
        return Finding(numbers, as_rgb(open_image(grids[-1])))

    def tables(self, request: Request, found: Found) -> list[Table]:
        return [table for condition in request.conditions if (table := self._table(request, condition, found))]

    def _table(self, request: Request, condition: str, found: Found) -> Table | None:
        rows = [["training", "seed", "kind", "evidence", "when", "width", "from", "to", "scenes that jump", "width"]]
        for name, _ in levers(request):
            for seed in range(request.seeds):
                cell = found.get(f"{condition}-{name}-seed{seed}")
                if cell is not None:
                    rows.append([name, str(seed), *_texts(cell)])
        title = (
            f"{condition}: {request.tested} scenes every {request.every} steps; when half of the rise is done, and "
            "how many steps its 10 to 90 % take [95 % interval]; of each scene for itself, the median width"
        )
        return Table(title, rows) if len(rows) > 1 else None


def levers(request: Request) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The usual training, and one for each other value of each lever, the rest as usual."""
    usual = settings_of(TrainingConfig)
    yield USUAL, {}
    for setting, values in request.levers.items():
        for value in values:
            if value != usual[setting].default:
                yield f"{setting}={value}", {setting: value}


def _texts(cell: Mapping[str, Any]) -> list[str]:
    """The cells of a row."""
    when, width = (
        f"{_whole(cell[name])} [{_whole(cell[f'{name}, from'])}, {_whole(cell[f'{name}, to'])}]"
        for name in ("when", "width")
    )
    of_scenes = f"{np.median(cell['their widths']):.0f}" if cell["their widths"] else "–"
    if cell["kind"] == "flat":
        when = width = "–"
    levels = [f"{cell['before']:.3f}", f"{cell['after']:.3f}"]
    return [cell["kind"], _whole(cell["evidence"]), when, width, *levels, f"{cell['scenes that jump']:.0%}", of_scenes]


def _whole(value: float | None) -> str:
    """A whole number; none where a curve fits without an error, so that its evidence is infinite."""
    return "–" if value is None else f"{value:.0f}"


STUDY = Convergence()
