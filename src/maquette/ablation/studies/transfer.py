"""A ControlNet on a base that was fine-tuned: as it is, moved by the difference of the bases, or trained there.

The fine-tuned base is made first: the study's base, trained on scenes at night alone (v3 §3.4 and its figure of
transfer to other checkpoints). All are measured on test scenes at night.
"""

import warnings

from maquette.ablation.bench import NETS, Bench
from maquette.ablation.cells import Cell, Finding, Found, Table
from maquette.ablation.nets import file_name, opened
from maquette.ablation.request import Request
from maquette.ablation.studies.night import fine_tune, rows_at_night, write_pairs
from maquette.ablation.studies.prompted import KINDS, prompted, table_of
from maquette.base import Base
from maquette.baselines.protocol import Budget
from maquette.checkpoints import load_base, load_controlnet
from maquette.checkpoints.convert import transfer
from maquette.checkpoints.names import local_base, local_controlnet
from maquette.controlnet.network import ControlNet
from maquette.data.diorama import Pairs
from maquette.diorama import dataset
from maquette.errors import MaquetteWarning
from maquette.evaluation.controlnet import Examples
from maquette.evaluation.provenance import provenance
from maquette.metrics.fidelity import SceneScorer

FINE_TUNE = "fine-tune"
NIGHT, PAIRS = "night", "night-pairs"  # folders: the fine-tuned base, and pairs to train on it
HOME, AS_IT_IS, BY_OFFSET, TRAINED = "on its own base", "as it is", "by offset", "trained there"
WAYS = (HOME, AS_IT_IS, BY_OFFSET, TRAINED)
SCENES_A_NIGHT = 6  # rendered for each test scene at night at first; more where these are too few


class Transfer:
    """Fine-tunes the base, then measures each ControlNet on it in each way."""

    def cells(self, request: Request) -> list[Cell]:
        measured = [
            Cell(
                name_of(net, way),
                {"net": net, "way": way},
                request.steps if way == TRAINED else 0,
                images=len(KINDS) * request.tested,
            )
            for net in request.names_of_nets
            for way in WAYS
        ]
        return [Cell(FINE_TUNE, {"way": FINE_TUNE}, request.steps, request.scenes), *measured]

    def run(self, cell: Cell, bench: Bench) -> Finding:
        """Raises `MaquetteError` for a ControlNet that cannot be loaded, or was not trained on the diorama."""
        request, way = bench.request, cell.settings["way"]
        if way == FINE_TUNE:
            tuned, budget = (
                load_base(request.base, request.device, "float32"),
                Budget(request.steps, request.batch_size),
            )
            fine_tune(tuned, _scenes("canny", request), budget, request.output / NIGHT)
            return Finding({"setup": provenance(tuned, None, bench.protocol)})
        condition = opened(cell.settings["net"], bench)[1].condition
        base = bench.base if way == HOME else load_base(request.output / NIGHT, request.device, "float32")
        net = _net(cell, condition, bench, base)
        return prompted(base, net, _at_night(condition, bench), bench, cell.name)

    def tables(self, request: Request, found: Found) -> list[Table]:
        return [table for net in request.names_of_nets if (table := self._table(request, net, found))]

    def _table(self, request: Request, net: str, found: Found) -> Table | None:
        done = {way: found[name] for way in WAYS if (name := name_of(net, way)) in found}
        title = f"{net} on a base fine-tuned to nights, {request.tested} test scenes at night"
        return Table(title, table_of("the ControlNet", done)) if done else None


def name_of(net: str, way: str) -> str:
    """The name of a cell."""
    return f"{file_name(net)}-{file_name(way)}"


def _scenes(condition: str, request: Request) -> Pairs:
    """The scenes of the training range that a training sees."""
    return Pairs.load(condition, range(dataset.TRAIN, dataset.TRAIN + request.scenes))


def _net(cell: Cell, condition: str, bench: Bench, base: Base) -> ControlNet:
    """The ControlNet that a cell measures, on its base."""
    (name, way), output = cell.settings.values(), bench.request.output
    if way == BY_OFFSET:
        source, old = local_controlnet(name) or name, local_base(bench.request.base) or bench.request.base
        return load_controlnet(transfer(source, old, output / NIGHT, output / NETS / cell.name), base)
    if way == TRAINED:
        pairs = output / f"{PAIRS}-{condition}"
        write_pairs(_scenes(condition, bench.request), pairs)
        return bench.trained(cell.name, condition, base, base=str(output / NIGHT), data=str(pairs))
    with warnings.catch_warnings():  # that it was trained on another base is what is measured
        warnings.simplefilter("ignore", MaquetteWarning)
        return load_controlnet(name, base)


def _at_night(condition: str, bench: Bench) -> Examples:
    """The first test scenes at night."""
    count = bench.request.tested
    scenes = SCENES_A_NIGHT * count
    while True:
        pairs = Pairs.load(condition, range(dataset.TEST, dataset.TEST + scenes))
        rows = rows_at_night(pairs)[:count]
        if len(rows) == count:
            return Examples.of(pairs, rows, SceneScorer(condition, bench.perception), "unseen scenes")
        scenes *= 2


STUDY = Transfer()
