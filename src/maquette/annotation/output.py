"""The target of an annotation: shards, each complete or absent, and beside them the settings and statistics.

The statistics hold a checksum of their shard and of themselves; those of versions up to 0.2 do not.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from maquette.data.sources.jsonl import BadRow
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.files import atomic_write, exclusive


@dataclass
class ShardStats:
    """What became of a shard's rows."""

    pairs: int = 0
    left_out: int = 0  # too small, or too little was detected
    faults: list[BadRow] = field(default_factory=list)
    checksum: str | None = None  # of the shard; None if it has no pairs
    digests: list[str] = field(default_factory=list)  # of the source's rows; empty for those that were not read
    marks: str | None = None  # of their files


@dataclass(frozen=True)
class Target:
    """A folder of tar shards, or of Parquet files if its name ends in .parquet.

    A shard is done once its statistics, which are written last, are in `.annotation`.
    """

    folder: Path

    @property
    def is_table(self) -> bool:
        return self.folder.suffix == ".parquet"

    def shard(self, number: int) -> Path:
        return self.folder / f"{number:06d}{'.parquet' if self.is_table else '.tar'}"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Exclusive access within the block; the lock ends with the process.

        Raises `MaquetteError` if another run holds it, or if the folder has files of another origin.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise MaquetteError(f"{str(self.folder)!r} is a file; shards go into a folder: name another.")
        if not self._settings.exists() and any(self.folder.glob("[!.]*")):
            raise MaquetteError(f"{str(self.folder)!r} has files that no annotation wrote; name another folder.")
        self._state.mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder, self._state):
            yield

    def start(self, settings: Mapping[str, Any]) -> None:
        """Save the settings, or check them against the saved ones; remove partial files of an interrupted run.

        Raises `MaquetteError` if they differ or are damaged.
        """
        requested = json.loads(json.dumps(settings))
        if not self._settings.exists():
            _write(self._settings, requested)
        saved = _read(self._settings)
        if saved is None:
            raise MaquetteError(
                f"{str(self._settings)!r} is damaged, so that it is not known what {str(self.folder)!r} holds; name "
                "another folder."
            )
        differences = [
            f"{name} {saved.get(name)!r}, not {requested.get(name)!r}"
            for name in {**saved, **requested}
            if saved.get(name) != requested.get(name)
        ]
        if differences:
            raise MaquetteError(
                f"{str(self.folder)!r} was started with {'; '.join(differences)}. Resume with the same settings, or "
                "name another folder."
            )
        for partial in [*self.folder.glob(".[0-9]*-*"), *self._state.glob(".*-*")]:
            partial.unlink()

    def rows(self) -> tuple[list[int], list[BadRow]] | None:
        """The chosen rows of the source and the unreadable ones, if an earlier run has saved them."""
        path = self._state / "rows.json"
        saved = _read(path) if path.exists() else None
        return None if saved is None else (saved["rows"], [BadRow(**fault) for fault in saved["faults"]])

    def keep_rows(self, rows: Sequence[int], faults: Sequence[BadRow]) -> None:
        _write(self._state / "rows.json", {"rows": list(rows), "faults": [asdict(fault) for fault in faults]})

    def stats(self, number: int) -> ShardStats | None:
        """The statistics of a shard if it was written; a shard without pairs has no file."""
        path = self._state / f"{number:06d}.json"
        saved = _read(path) if path.exists() else None
        if saved is None:
            return None
        stats = ShardStats(**{**saved, "faults": [BadRow(**fault) for fault in saved["faults"]]})
        return None if stats.pairs and not self.shard(number).exists() else stats

    def holds(self, number: int, stats: ShardStats) -> bool:
        """Whether a shard is as it was written."""
        return stats.checksum is None or checksum(self.shard(number)) == stats.checksum

    def save_stats(self, number: int, stats: ShardStats) -> None:
        _write(self._state / f"{number:06d}.json", asdict(stats))

    def write_faults(self, faults: Sequence[BadRow]) -> Path | None:
        """List all bad rows in faults.jsonl, one per line; no file if there are none."""
        if not faults:
            return None
        path = self.folder / "faults.jsonl"
        with atomic_write(path) as temporary:
            lines = [json.dumps(asdict(fault), ensure_ascii=False) for fault in faults]
            temporary.write_text("\n".join(lines) + "\n", "utf-8")
        return path

    @property
    def _state(self) -> Path:
        return self.folder / ".annotation"

    @property
    def _settings(self) -> Path:
        return self._state / "settings.json"


def checksum(shard: Path) -> str:
    """Of a file's content."""
    with shard.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()[:32]


CHECK = "check"  # the key of a checksum in JSON


def _write(path: Path, values: Mapping[str, Any]) -> None:
    with atomic_write(path) as temporary:
        content = {**values, CHECK: _check(values)}
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1), "utf-8")


def _read(path: Path) -> dict[str, Any] | None:
    """What `_write` wrote; None if it has changed since, with a warning."""
    try:
        values = json.loads(path.read_bytes())
        if values.pop(CHECK, None) not in (None, _check(values)):
            raise ValueError("its checksum does not match")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        warnings.warn(f"{str(path)!r} is damaged ({error}).", MaquetteWarning, stacklevel=3)
        return None
    read: dict[str, Any] = values
    return read


def _check(values: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8).hexdigest()
