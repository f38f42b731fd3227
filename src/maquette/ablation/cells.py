"""The cells of a study, and the folder that keeps each one as soon as it is finished."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from maquette.ablation.bench import Bench
from maquette.ablation.request import Request
from maquette.errors import MaquetteError
from maquette.evaluation.report import finite
from maquette.foundation.files import atomic_write
from maquette.foundation.reading.documents import read_json

SETTINGS, CELLS = "study.json", "cells"
LARGEST = 2**26  # bytes of a file of the folder


@dataclass(frozen=True)
class Cell:
    """One combination of settings, and what it costs."""

    name: str  # also of its files
    settings: Mapping[str, Any]
    steps: int = 0  # optimizer steps
    encoded: int = 0  # training scenes, at most
    images: int = 0  # generated

    def __post_init__(self) -> None:
        assert "/" not in self.name, "names become files"


@dataclass(frozen=True)
class Finding:
    """What a cell was found to be: numbers that JSON holds, and a sheet of images."""

    numbers: dict[str, Any]
    sheet: Image.Image | None = None


Found = Mapping[str, dict[str, Any]]
"""The numbers of each finished cell, by its name."""


@dataclass(frozen=True)
class Table:
    """Rows of texts, the first one the head."""

    title: str
    rows: list[list[str]]


class Study(Protocol):
    """A question, the cells that answer it, and the tables that say so."""

    def cells(self, request: Request) -> list[Cell]: ...

    def run(self, cell: Cell, bench: Bench) -> Finding: ...

    def tables(self, request: Request, found: Found) -> list[Table]:
        """Of the finished cells; there may be some missing."""


@dataclass
class Ledger:
    """The folder of a study: study.json, and for each finished cell its numbers in cells/."""

    folder: Path
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    @staticmethod
    def open(request: Request, cells: Sequence[Cell]) -> "Ledger":
        """What a folder holds of a study. Raises `MaquetteError` if it is one with other settings, or damaged."""
        ledger, settings = Ledger(request.output), finite(request.used)
        path = request.output / SETTINGS
        before = _read(path) if path.exists() else settings
        changed = sorted(name for name in {*before, *settings} if before.get(name) != settings.get(name))
        if changed:
            raise MaquetteError(
                f"The study in {str(request.output)!r} was started with other settings ({', '.join(changed)}); go on "
                "with the same ones, or choose another output."
            )
        for cell in cells:
            if ledger.file(cell).exists():
                ledger.found[cell.name] = _read(ledger.file(cell))
        return ledger

    def begin(self, request: Request) -> None:
        """Write down which study the folder is of."""
        _write(self.folder / SETTINGS, request.used)

    def file(self, cell: Cell) -> Path:
        return self.folder / CELLS / f"{cell.name}.json"

    def keep(self, cell: Cell, finding: Finding) -> None:
        """Write down a finished cell: the sheet first, since the numbers say that it is finished."""
        path = self.file(cell)
        if finding.sheet is not None:
            with atomic_write(path.with_suffix(".png")) as temporary:
                finding.sheet.save(temporary, "PNG")
        _write(path, finding.numbers)
        self.found[cell.name] = _read(path)


def _read(path: Path) -> dict[str, Any]:
    """Raises `MaquetteError` for a file that is damaged."""
    try:
        found: dict[str, Any] = read_json(path, LARGEST)
    except (OSError, ValueError) as error:
        raise MaquetteError(f"{str(path)!r} is damaged ({error}); delete it, and its part is done again.") from error
    return found


def _write(path: Path, values: Any) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(finite(values), indent=1, ensure_ascii=False) + "\n", "utf-8")
