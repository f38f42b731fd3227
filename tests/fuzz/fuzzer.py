"""Broken files of every kind against the functions that read them: counts of what comes of it."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.families import FILES, MAKE, NET, file_of, places
from tests.fuzz.server import Server
from tests.fuzz.strategies import KINDS, NAMES, REQUESTS, changed_tensors, document

SOURCE = Path(__file__).parents[2] / "src"
SECONDS = 20  # that reading a file may take


class Fuzzer:
    """Reads files of all kinds and counts the outcomes: "loads", "sentence" or "else"."""

    def __init__(self, folder: Path, source: Path = SOURCE, seconds: int = SECONDS) -> None:
        self.folder, self.seconds, self.source = folder, seconds, source
        self.server = Server(folder, source)
        self.counts: Counter[tuple[str, str]] = Counter()

    def read(self, kind: str, content: bytes, name: str = "") -> tuple[str, str]:
        """The outcome for a file, and what was said."""
        case = self.folder / "case"
        shutil.rmtree(case, ignore_errors=True)
        case.mkdir(parents=True)
        path = case / NAMES[kind]
        path.write_bytes(content)
        for beside in _beside(kind, case):
            beside.write_bytes(_whole(kind))
        outcome, detail = self.server.read(kind, path, name, self.seconds)
        self.counts[kind, outcome] += 1
        if detail.startswith(("hangs", "exits", "killed")):
            self.counts[kind, detail.split(":")[0]] += 1
        return outcome, detail

    def strategy(self, kind: str) -> st.SearchStrategy[tuple[str, bytes]]:
        """Names of files within a folder, where there is one, and their contents."""
        if kind in KINDS:
            return KINDS[kind]().map(lambda content: ("", content))
        if kind == "request":
            return st.sampled_from(sorted(REQUESTS)).flatmap(
                lambda name: document(REQUESTS[name]).map(lambda content: (name, content))
            )
        if kind == "net":
            return st.sampled_from(sorted(FILES)).flatmap(
                lambda name: changed_tensors(self.whole(kind, name)).map(lambda content: (name, content))
            )
        names = places(self.folder) if kind == "base" else [f"{name}/config.json" for name in MAKE]
        return st.sampled_from(names).flatmap(
            lambda name: document(json.loads(self.whole(kind, name))).map(lambda content: (name, content))
        )

    def whole(self, kind: str, name: str) -> bytes:
        """A file of a base or of a ControlNet by its family and place, or a single one by its name; as it was saved."""
        if kind == "net":
            return file_of(self.folder, name).read_bytes()
        family, place = name.split("/", 1)
        return (self.folder / family / (NET if kind == "controlnet" else "") / place).read_bytes()

    def run(self, kind: str, count: int, number: int, found: list[tuple[str, str, bytes, str]]) -> None:
        """Read `count` files of a kind; what ends in "else" is added to `found` and goes on."""

        @seed(number)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(self.strategy(kind))
        def each(case: tuple[str, bytes]) -> None:
            outcome, detail = self.read(kind, case[1], case[0])
            if outcome == "else":
                found.append((kind, case[0], case[1], detail))

        each()

    def ready(self) -> None:
        """Wait until the folders of whole networks are there."""
        self.server.read("index", Path("none"), "", self.seconds)

    def close(self) -> dict[str, list[int]]:
        """How much of each reader has run, as `tests.fuzz.lines` counts it."""
        return self.server.close()


def _beside(kind: str, case: Path) -> Iterator[Path]:
    """Files that a kind needs beside it."""
    if kind == "array":
        yield case / "a_depth_mask.npy"
    if kind == "index":
        yield case / "model.safetensors"
        yield case / "other.safetensors"


def _whole(kind: str) -> bytes:
    from tests.fuzz import samples

    return samples.arrays()[0] if kind == "array" else samples.checkpoints()[0]
