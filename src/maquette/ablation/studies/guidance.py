"""Where in classifier-free guidance a condition enters, without a prompt (v3 §3.4)."""

from typing import Any

import numpy as np
from PIL import Image

from maquette.ablation.bench import Bench
from maquette.ablation.cells import Cell, Finding, Found, Table
from maquette.ablation.nets import file_name, opened
from maquette.ablation.request import Request
from maquette.evaluation.base import through
from maquette.evaluation.controlnet import generated_from
from maquette.evaluation.provenance import provenance
from maquette.evaluation.report import spread
from maquette.metrics.frechet import frechet_interval

WAYS: dict[str, dict[str, Any]] = {
    "both branches": {"condition_in": "both"},
    "conditional only": {"condition_in": "conditional"},
    "weighted, normalised": {"condition_in": "weighted", "resolution_weights": "normalised"},
    "weighted, literal": {"condition_in": "weighted", "resolution_weights": "literal"},
}
"""The settings of `generate`; in both branches guidance has no effect, since the branches are then the same."""


class Guidance:
    """Generates from the test scenes of each ControlNet in each way."""

    def cells(self, request: Request) -> list[Cell]:
        return [
            Cell(f"{file_name(net)}-{file_name(way)}", {"net": net, "way": way}, images=request.tested)
            for net in request.names_of_nets
            for way in WAYS
        ]

    def run(self, cell: Cell, bench: Bench) -> Finding:
        """Raises `MaquetteError` for a ControlNet that cannot be loaded, or was not trained on the diorama."""
        net, examples = opened(cell.settings["net"], bench)
        count, way = len(examples.maps), WAYS[cell.settings["way"]]
        size = examples.sources[0].size
        images = generated_from(
            bench.base, [""] * count, [(net, examples.maps)], bench.protocol, size, cell.name, **way
        )
        real = bench.perception.embed(examples.sources)
        decoded = through(bench.base, examples.sources, bench.protocol.batch_size)
        numbers = {
            "label": examples.label,
            "scores": examples.measured(images)[examples.label],
            "saturation": saturations(images),
            "saturation of scenes": saturations(decoded),
            "frechet": vars(frechet_interval(bench.perception.embed(images), real)),
            "setup": provenance(bench.base, net, bench.protocol) | {"way": way},
        }
        rows = {"condition": examples.maps, "source": examples.sources, cell.settings["way"]: images}
        return Finding(numbers, bench.sheet(rows))

    def tables(self, request: Request, found: Found) -> list[Table]:
        return [table for net in request.names_of_nets if (table := self._table(request, net, found))]

    def _table(self, request: Request, net: str, found: Found) -> Table | None:
        done = {way: found[name] for way in WAYS if (name := f"{file_name(net)}-{file_name(way)}") in found}
        if not done:
            return None
        rows = [["the condition enters", "", "saturation", "Fréchet distance to the scenes"]]
        for way, cell in done.items():
            rows[0][1] = cell["label"]
            rows.append([way, spread(cell["scores"]), spread(cell["saturation"]), with_interval(cell["frechet"])])
        rows.append(["(the scenes, decoded)", "–", spread(next(iter(done.values()))["saturation of scenes"]), "–"])
        return Table(f"{net}, no prompt, {request.tested} test scenes", rows)


def saturations(images: list[Image.Image]) -> list[float]:
    """The mean saturation of each image, S of HSV from 0 to 1: strong guidance burns colours."""
    return [float(np.asarray(image.convert("HSV"))[..., 1].mean() / 255) for image in images]


def with_interval(value: dict[str, float]) -> str:
    """A number with its 95 % interval."""
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


STUDY = Guidance()
