"""Running a study: cell by cell, each kept as soon as it is finished, and the result written after each."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from maquette.ablation.bench import Bench
from maquette.ablation.cells import Cell, Finding, Ledger, Study, Table
from maquette.ablation.estimate import measured
from maquette.ablation.request import STUDIES as QUESTIONS
from maquette.ablation.request import Request
from maquette.ablation.studies import coarse, composition, convergence, design, guidance, methods, transfer
from maquette.evaluation.report import markdown_table
from maquette.foundation.files import atomic_write, exclusive

STUDIES: dict[str, Study] = {
    "design": design.DESIGN,
    "pairs": design.PAIRS,
    "guidance": guidance.STUDY,
    "composition": composition.STUDY,
    "coarse": coarse.STUDY,
    "transfer": transfer.STUDY,
    "methods": methods.STUDY,
    "convergence": convergence.STUDY,
}


def ablate(request: Request, command: str = "", only_estimate: bool = False) -> Path:
    """Run a study, or the rest of it, and return its folder: result.json, result.md, and a folder of cells.

    Says beforehand how long it will take. A study that was stopped goes on where it was: finished cells are not
    computed again, and trainings go on from their last checkpoint.

    Args:
        command: as it was typed, to be kept with the result.
        only_estimate: measure and say how long it will take, and stop.

    Raises `MaquetteError` if the folder holds another study, or is being written by another process; as training and
    evaluation do. Ctrl-C, SIGTERM and SIGHUP save a training's checkpoint and exit.
    """
    study = STUDIES[request.study]
    cells = study.cells(request)
    with contextlib.nullcontext() if only_estimate else _held(request.output):
        ledger = Ledger.open(request, cells)
        left = [cell for cell in cells if cell.name not in ledger.found]
        tqdm.write(f"{request.study}: {QUESTIONS[request.study][0]}; {len(left)} of {len(cells)} cells to do.")
        if left:
            bench = Bench.open(request)
            seconds = measured(bench, left).seconds(left)
            tqdm.write(f"About {_hours(seconds)}, by a few steps measured on this machine.")
        if only_estimate:
            return request.output
        ledger.begin(request)
        for number, cell in enumerate(left, 1):
            tqdm.write(f"{number} of {len(left)}: {cell.name}")
            ledger.keep(cell, _timed(study, cell, bench))
            if cell.steps:
                bench.forget_states(cell.name)
            _write(request, ledger, study.tables(request, ledger.found), command)
        tables = study.tables(request, ledger.found)
        _write(request, ledger, tables, command)
        tqdm.write(markdown(ledger, tables))
    return request.output


def _held(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold a new or old folder for this process alone."""
    folder.mkdir(parents=True, exist_ok=True)
    return exclusive(folder)


def _timed(study: Study, cell: Cell, bench: Bench) -> Finding:
    started = time.perf_counter()
    finding = study.run(cell, bench)
    seconds = round(time.perf_counter() - started, 1)
    return Finding({**cell.settings, "seconds": seconds, **finding.numbers}, finding.sheet)


def _write(request: Request, ledger: Ledger, tables: list[Table], command: str) -> None:
    """Write what is known so far as JSON and as Markdown."""
    hours = sum(cell["seconds"] for cell in ledger.found.values()) / 3600
    result: dict[str, Any] = {
        "study": request.study,
        "command": command,
        "settings": request.used,
        "hours": hours,
        "tables": [{"title": table.title, "rows": table.rows} for table in tables],
        "cells": ledger.found,
    }
    with atomic_write(request.output / "result.json") as path:
        path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    depends = [["setting", "value"], *([name, str(value)] for name, value in request.used.items())]
    parts = [f"# {request.study}: {QUESTIONS[request.study][0]}", markdown(ledger, tables), f"`{command}`"]
    parts += [markdown_table(depends), markdown_table([["cell", "base", "ControlNet"], *_hashes(ledger)])]
    with atomic_write(request.output / "result.md") as path:
        path.write_text("\n\n".join(part for part in parts if part != "``") + "\n", "utf-8")


def markdown(ledger: Ledger, tables: list[Table]) -> str:
    """The tables, and how long they took."""
    parts = [f"{table.title}:\n\n{markdown_table(table.rows)}" for table in tables]
    seconds = sum(cell["seconds"] for cell in ledger.found.values())
    return "\n\n".join([*parts, f"{len(ledger.found)} cells in {_hours(seconds)}."])


def _hashes(ledger: Ledger) -> list[list[str]]:
    """The first digits of the hashes of each cell's networks; result.json has them whole."""
    rows = []
    for name, cell in ledger.found.items():
        setups = cell["setup"] if isinstance(cell["setup"], list) else [cell["setup"]]
        nets = ", ".join(setup["controlnet"]["hash"][:12] for setup in setups if setup["controlnet"])
        rows.append([name, setups[0]["base"]["hash"][:12], nets])
    return rows


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{max(1, round(seconds / 60))} minutes"
