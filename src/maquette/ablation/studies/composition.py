"""Two controls together against each alone: their residuals add up, without weights (v3 §3.4)."""

from maquette.ablation.bench import Bench
from maquette.ablation.cells import Cell, Finding, Found, Table
from maquette.ablation.nets import file_name, opened
from maquette.ablation.request import Request
from maquette.evaluation.controlnet import generated_from
from maquette.evaluation.protocol import PROMPTS
from maquette.evaluation.provenance import provenance
from maquette.evaluation.report import spread

KINDS = ("none", "true")  # of prompt: the layout comes from the conditions alone, or from the caption too
WHICH = {"both": (0, 1), "first alone": (0,), "second alone": (1,)}


class Composition:
    """Scores each image by both conditions, whichever controls it was made with."""

    def cells(self, request: Request) -> list[Cell]:
        return [
            Cell(f"{file_name(pair)}-{file_name(which)}", {"pair": pair, "which": which}, images=2 * request.tested)
            for pair in request.names_of_nets
            for which in WHICH
        ]

    def run(self, cell: Cell, bench: Bench) -> Finding:
        """Raises `MaquetteError` for a ControlNet that cannot be loaded, or was not trained on the diorama."""
        parts = [opened(name, bench) for name in cell.settings["pair"].split("+")]
        chosen = [parts[place] for place in WHICH[cell.settings["which"]]]
        controls, size = [(net, examples.maps) for net, examples in chosen], parts[0][1].sources[0].size
        rows = {examples.condition: examples.maps for _, examples in parts} | {"source": parts[0][1].sources}
        scores: dict[str, dict[str, list[float]]] = {examples.label: {} for _, examples in parts}
        for kind in KINDS:
            prompts = PROMPTS[kind](parts[0][1].captions)
            label = f"{cell.name}, {kind} prompt"
            rows[kind] = generated_from(bench.base, prompts, controls, bench.protocol, size, label)
            for _, examples in parts:
                scores[examples.label][kind] = examples.measured(rows[kind])[examples.label]
        setup = [provenance(bench.base, net, bench.protocol) for net, _ in chosen]
        return Finding({"scores": scores, "setup": setup}, bench.sheet(rows))

    def tables(self, request: Request, found: Found) -> list[Table]:
        return [table for pair in request.names_of_nets if (table := self._table(request, pair, found))]

    def _table(self, request: Request, pair: str, found: Found) -> Table | None:
        names = {which: f"{file_name(pair)}-{file_name(which)}" for which in WHICH}
        done = {which: found[name] for which, name in names.items() if name in found}
        if not done:
            return None
        labels = list(next(iter(done.values()))["scores"])
        rows = [["controls", *(f"{label}, {kind} prompt" for label in labels for kind in KINDS)]]
        rows += [
            [which, *(spread(cell["scores"][label][kind]) for label in labels for kind in KINDS)]
            for which, cell in done.items()
        ]
        return Table(f"{pair}, {request.tested} test scenes", rows)


STUDY = Composition()
