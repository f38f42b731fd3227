"""The rows of a run that could not be read, listed in `broken.jsonl`."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from maquette.data.sources.jsonl import BadRow
from maquette.errors import MaquetteError

BROKEN = "broken.jsonl"


@dataclass
class BrokenRows:
    """The list, shared by the processes of a run."""

    folder: Path  # of the run
    rows: int  # of the data set
    share: float  # that may be broken
    faults: dict[str, BadRow] = field(default_factory=dict)  # by location

    def note(self, found: list[BadRow]) -> None:
        """Report and list unreadable rows.

        Raises `MaquetteError` if too many are.
        """
        if not any(fault.where not in self.faults for fault in found):
            return
        self.faults = {fault.where: fault for fault in self.listed()}
        for fault in {fault.where: fault for fault in found if fault.where not in self.faults}.values():
            self.faults[fault.where] = fault
            tqdm.write(f"Skipped {fault.where}: {fault.reason}")
            with (self.folder / BROKEN).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(vars(fault), ensure_ascii=False) + "\n")
        if len(self.faults) > self.share * self.rows:
            raise MaquetteError(
                f"{len(self.faults)} of {self.rows} rows could not be read, more than the share of {self.share:g} that "
                f"may be broken; {str(self.folder / BROKEN)!r} lists them. Fix them, or allow a larger share (broken)."
            )

    def listed(self) -> list[BadRow]:
        """The unreadable rows found by any process, also before the run was resumed; damaged lines are left out."""
        path = self.folder / BROKEN
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [fault for fault in map(_parsed, lines) if fault is not None]


def _parsed(line: bytes) -> BadRow | None:
    """A line of the list; None if it was damaged: its row is found and listed again."""
    try:
        return BadRow(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None
