"""What a ControlNet's images are worth with the true prompt and without one, as two of the studies tell it."""

from typing import Any

from maquette.ablation.bench import Bench
from maquette.ablation.cells import Finding
from maquette.ablation.studies.guidance import with_interval
from maquette.base import Base
from maquette.controlnet.network import ControlNet
from maquette.evaluation.controlnet import Examples, generated_from
from maquette.evaluation.protocol import PROMPTS
from maquette.evaluation.provenance import provenance
from maquette.evaluation.report import spread
from maquette.metrics.frechet import frechet_interval

KINDS = ("true", "none")  # of prompt


def prompted(base: Base, net: ControlNet, examples: Examples, bench: Bench, label: str, end: float = 1.0) -> Finding:
    """Scores of each scene, and the Fréchet distance to the scenes, by kind of prompt.

    Args:
        label: of the progress bar.
        end: the share of the steps after which the ControlNet is left out; 0 for without it.
    """
    real, size = bench.perception.embed(examples.sources), examples.sources[0].size
    rows = {"condition": examples.maps, "source": examples.sources}
    scores, distances = {}, {}
    for kind in KINDS:
        prompts, controls = PROMPTS[kind](examples.captions), [(net, examples.maps)] if end else []
        rows[kind] = generated_from(base, prompts, controls, bench.protocol, size, f"{label}, {kind} prompt", end=end)
        scores[kind] = examples.measured(rows[kind])[examples.label]
        distances[kind] = vars(frechet_interval(bench.perception.embed(rows[kind]), real))
    setup = provenance(base, net, bench.protocol)
    return Finding({"label": examples.label, "scores": scores, "frechet": distances, "setup": setup}, bench.sheet(rows))


def table_of(first: str, cells: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Rows of texts, one for each finding by its name, below a head that begins with `first`."""
    label = next(iter(cells.values()))["label"]
    rows = [[first, *(f"{what}, {kind} prompt" for kind in KINDS for what in (label, "Fréchet distance"))]]
    for name, cell in cells.items():
        texts = [(spread(cell["scores"][kind]), with_interval(cell["frechet"][kind])) for kind in KINDS]
        rows.append([name, *(text for of_kind in texts for text in of_kind)])
    return rows
