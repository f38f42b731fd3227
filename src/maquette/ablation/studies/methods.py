"""The methods that the paper compares ControlNet with, trained for as many steps (v3 §4.3 and its tables)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maquette.ablation.bench import NETS, Bench
from maquette.ablation.cells import Cell, Finding, Found, Table
from maquette.ablation.request import METHODS as ORDER
from maquette.ablation.request import Request
from maquette.ablation.studies.design import over_seeds
from maquette.ablation.studies.guidance import with_interval
from maquette.baselines.protocol import WEIGHTS, Budget, Method
from maquette.baselines.registry import METHODS, TRAINED, load, make
from maquette.data import diorama
from maquette.diorama import dataset, scene
from maquette.errors import MaquetteError
from maquette.evaluation.base import names_its_things, prompt_alignment
from maquette.evaluation.provenance import provenance
from maquette.evaluation.report import spread
from maquette.foundation.reading.files import file_hash
from maquette.metrics.frechet import frechet_interval

UNTRAINED = "base"
CONTROLNETS = {"lite": "lite", "controlnet": "zero"}
"""Variants of ControlNet by the names of the paper's table."""


class Methods:
    """Trains each method on the scenes that ControlNet sees, and measures its images of the true prompts."""

    def cells(self, request: Request) -> list[Cell]:
        return [
            Cell(
                name_of(condition, method, seed),
                {"condition": condition, "method": method, "seed": seed},
                request.steps if method != UNTRAINED else 0,
                request.scenes,
                request.tested,
            )
            for condition in request.conditions
            for method in methods_for(condition, request)
            for seed in range(request.seeds if method != UNTRAINED else 1)
        ]

    def run(self, cell: Cell, bench: Bench) -> Finding:
        """Raises `MaquetteError` as the training of the method does."""
        condition, name = cell.settings["condition"], cell.settings["method"]
        examples, perception = bench.examples(condition), bench.perception
        method, setup = _trained(cell, bench)
        prompts = examples.captions if method.takes_text else [""] * len(examples.captions)
        images = method.pictures(prompts, examples.maps, range(len(prompts)))
        scenes = [scene(dataset.TEST + number) for number in range(bench.request.tested)]
        named = [number for number in range(len(images)) if names_its_things(scenes[number])]
        aligned = prompt_alignment(
            [images[number] for number in named], [scenes[number] for number in named], perception
        )
        real = perception.embed(examples.sources)
        numbers = {
            "label": examples.label,
            "scores": {"true": examples.measured(images)[examples.label]},
            "frechet": vars(frechet_interval(perception.embed(images), real)),
            "found": vars(aligned.found),
            "coloured": vars(aligned.coloured),
            "unlikeness": nearest(perception.embed(images), real).tolist(),
            "setup": setup,
        }
        return Finding(numbers, bench.sheet({"condition": examples.maps, "source": examples.sources, name: images}))

    def tables(self, request: Request, found: Found) -> list[Table]:
        return [table for condition in request.conditions for table in self._tables(request, condition, found)]

    def _tables(self, request: Request, condition: str, found: Found) -> Iterator[Table]:
        finished = {}
        for method in methods_for(condition, request):
            names = [name_of(condition, method, seed) for seed in range(request.seeds)]
            if done := [found[name] for name in names if name in found]:
                finished[method] = done
        if not finished:
            return
        label = next(iter(finished.values()))[0]["label"]
        rows = [["method", "trainings", label, "Fréchet distance to the scenes", "things found", "in their colour"]]
        for method, done in finished.items():
            means = [_mean(done, measure) for measure in ("frechet", "found", "coloured")]
            rows.append([method, str(len(done)), spread(over_seeds(done, "true")), *means])
        yield Table(f"{condition}: true prompts, {request.tested} test scenes", rows)
        title = f"{condition}: ranks by machine, no people asked, 1 is worst; mean ± deviation over the scenes"
        yield Table(title, _ranked(finished, label))


def _ranked(finished: dict[str, list[dict[str, Any]]], label: str) -> list[list[str]]:
    """Rows of texts: each method's average rank by fidelity, and by how near its images are to true scenes."""
    scores = np.array([over_seeds(done, "true") for done in finished.values()])
    unlike = np.array([np.mean([cell["unlikeness"] for cell in done], axis=0) for done in finished.values()])
    told = ~np.isnan(scores).any(axis=0)  # a scene may have nothing to score
    by_fidelity, by_quality = ranks(scores[:, told]), ranks(-unlike)
    rows = [["method", f"by fidelity ({label})", "by quality (distance to the nearest true scene, in features)"]]
    for name, fidelity, quality in zip(finished, by_fidelity, by_quality, strict=True):
        texts = (f"{of.mean():.2f} ± {of.std(ddof=1):.2f}" for of in (fidelity, quality))
        rows.append([name, *texts])
    return rows


def ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks (M, N) of M methods on each of N scenes, from scores (M, N): 1 is lowest, ties share their mean."""
    others, own = scores[None], scores[:, None]
    return np.asarray(1 + (others < own).sum(axis=1) + ((others == own).sum(axis=1) - 1) / 2)


def nearest(features: NDArray[np.floating], real: NDArray[np.floating]) -> NDArray[np.float64]:
    """The Euclidean distance of each row of features (N, D) to the nearest row of `real` (M, D), (N,)."""
    squares = (features**2).sum(axis=1)[:, None] + (real**2).sum(axis=1) - 2 * features @ real.T
    return np.asarray(np.sqrt(squares.clip(min=0).min(axis=1)))


def methods_for(condition: str, request: Request) -> list[str]:
    """The methods asked for that take a condition, in the order of the paper's table.

    Raises `MaquetteError` if there is none.
    """
    other = {name for name in TRAINED if METHODS[name].conditions and condition not in METHODS[name].conditions}
    able = [name for name in ORDER if name in request.methods and name not in other]
    if not able:
        raise MaquetteError(f"None of the methods {', '.join(request.methods)} takes {condition}; add base, for one.")
    return able


def name_of(condition: str, method: str, seed: int) -> str:
    return f"{condition}-{method}-seed{seed}"


def _trained(cell: Cell, bench: Bench) -> tuple[Method, dict[str, object]]:
    """The method of a cell, trained, and what its numbers depend on."""
    request, (condition, name, seed) = bench.request, cell.settings.values()
    folder = request.output / NETS / cell.name
    if name == UNTRAINED:
        return load(name, bench.base), provenance(bench.base, None, bench.protocol)
    if name in CONTROLNETS:
        net = bench.trained(cell.name, condition, seed=seed, variant=CONTROLNETS[name])
        return load(folder, bench.base), provenance(bench.base, net, bench.protocol)
    method = make(name, bench.base, condition)
    pairs = diorama.Pairs.load(condition, range(dataset.TRAIN, dataset.TRAIN + request.scenes))
    method.train(pairs, Budget(request.steps, request.batch_size, seed), folder)
    of_method = {"name": name, "hash": file_hash(folder / WEIGHTS)}
    return method, provenance(bench.base, None, bench.protocol) | {"controlnet": of_method}


def _mean(done: list[dict[str, dict[str, float]]], measure: str) -> str:
    """The value of one training with its interval; of several their mean, and the deviation between them."""
    values = [cell[measure]["mean"] for cell in done]
    if len(values) == 1:
        return with_interval(done[0][measure])
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


STUDY = Methods()
