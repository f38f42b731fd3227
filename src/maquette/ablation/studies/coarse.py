"""Coarse control: the ControlNet is left out of the last steps, so that it suggests shapes only (v1, fig. 27)."""

from maquette.ablation.bench import Bench
from maquette.ablation.cells import Cell, Finding, Found, Table
from maquette.ablation.nets import file_name, opened
from maquette.ablation.request import Request
from maquette.ablation.studies.prompted import KINDS, prompted, table_of

ENDS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the steps in which the ControlNet acts; in the paper's figure, half of them."""


class Coarse:
    """Generates from the test scenes of each ControlNet, which ends after each share of the steps."""

    def cells(self, request: Request) -> list[Cell]:
        return [
            Cell(name_of(net, end), {"net": net, "end": end}, images=len(KINDS) * request.tested)
            for net in request.names_of_nets
            for end in ENDS
        ]

    def run(self, cell: Cell, bench: Bench) -> Finding:
        """Raises `MaquetteError` for a ControlNet that cannot be loaded, or was not trained on the diorama."""
        net, examples = opened(cell.settings["net"], bench)
        return prompted(bench.base, net, examples, bench, cell.name, cell.settings["end"])

    def tables(self, request: Request, found: Found) -> list[Table]:
        return [table for net in request.names_of_nets if (table := self._table(request, net, found))]

    def _table(self, request: Request, net: str, found: Found) -> Table | None:
        done = {f"{end:.0%}".replace("%", " %"): found[name] for end in ENDS if (name := name_of(net, end)) in found}
        title = f"{net}, {request.tested} test scenes"
        return Table(title, table_of("control in the first ... of the steps", done)) if done else None


def name_of(net: str, end: float) -> str:
    """The name of a cell."""
    return f"{file_name(net)}-{round(100 * end)}"


STUDY = Coarse()
