"""Where an annotation goes: shards that are whole or not there, and beside them what was made of which rows."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from maquette.data.sources.jsonl import BadRow
from maquette.errors import MaquetteError
from maquette.foundation.files import atomic_write


@dataclass
class Done:
    """What became of a shard's rows."""

    pairs: int = 0
    left_out: int = 0  # too small, or too little was found
    faults: list[BadRow] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """A folder of tar shards; one whose name ends in .parquet, of Parquet files.

    A shard counts as done when its note lies in `.annotation`, which is written after it.
    """

    folder: Path

    @property
    def is_table(self) -> bool:
        return self.folder.suffix == ".parquet"

    def shard(self, number: int) -> Path:
        return self.folder / f"{number:06d}{'.parquet' if self.is_table else '.tar'}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else's as long as the block runs; a process that is killed lets go of it."""
        if self.folder.exists() and not self.folder.is_dir():
            raise MaquetteError(f"{str(self.folder)!r} is a file; shards go into a folder: name another.")
        if not self._settings.exists() and any(self.folder.glob("[!.]*")):
            raise MaquetteError(f"{str(self.folder)!r} has files that no annotation made; name another folder.")
        self._notes.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._notes / "lock", timeout=0):
                yield
        except Timeout as error:
            raise MaquetteError(
                f"{str(self.folder)!r} is being written by another run; wait, or name another."
            ) from error

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Keep the settings, or refuse others than those kept; remove what a killed run left half-written."""
        asked = json.loads(json.dumps(settings))
        if not self._settings.exists():
            _write(self._settings, asked)
        kept = json.loads(self._settings.read_text("utf-8"))
        apart = [
            f"{name} {kept.get(name)!r}, not {asked.get(name)!r}"
            for name in {**kept, **asked}
            if kept.get(name) != asked.get(name)
        ]
        if apart:
            raise MaquetteError(
                f"{str(self.folder)!r} was begun with {'; '.join(apart)}. Go on with the same, or name another folder."
            )
        for left in [*self.folder.glob(".[0-9]*-*"), *self._notes.glob(".*-*")]:
            left.unlink()

    def rows(self) -> tuple[list[int], list[BadRow]] | None:
        """The chosen rows of the source, and those that could not be judged, where a run has chosen before."""
        path = self._notes / "rows.json"
        if not path.exists():
            return None
        kept = json.loads(path.read_text("utf-8"))
        return kept["rows"], [BadRow(**one) for one in kept["faults"]]

    def keep_rows(self, rows: Sequence[int], faults: Sequence[BadRow]) -> None:
        _write(self._notes / "rows.json", {"rows": list(rows), "faults": [asdict(one) for one in faults]})

    def done(self, number: int) -> Done | None:
        """What became of a shard, if it is whole and there; one of no pair has no file."""
        note = self._notes / f"{number:06d}.json"
        if not note.exists():
            return None
        kept = json.loads(note.read_text("utf-8"))
        found = Done(kept["pairs"], kept["left_out"], [BadRow(**one) for one in kept["faults"]])
        return None if found.pairs and not self.shard(number).exists() else found

    def note(self, number: int, done: Done) -> None:
        _write(self._notes / f"{number:06d}.json", asdict(done))

    def write_faults(self, faults: Sequence[BadRow]) -> Path | None:
        """All that could not be used, a line each; no file where there is nothing."""
        if not faults:
            return None
        path = self.folder / "faults.jsonl"
        with atomic_write(path) as temporary:
            lines = [json.dumps(asdict(one), ensure_ascii=False) for one in faults]
            temporary.write_text("\n".join(lines) + "\n", "utf-8")
        return path

    @property
    def _notes(self) -> Path:
        return self.folder / ".annotation"

    @property
    def _settings(self) -> Path:
        return self._notes / "settings.json"


def _write(path: Path, values: Mapping[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, ensure_ascii=False, indent=1), "utf-8")
