"""A broken file of any kind is read or answered by a sentence: no traceback, hang, crash, code or gigabytes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz import samples
from tests.fuzz.families import FILES, MAKE, places
from tests.fuzz.fuzzer import Fuzzer
from tests.fuzz.strategies import NAMES, REQUESTS

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())
"""What once broke, named kind+place+digest."""

EXAMPLES = {"base": 15, "parquet": 10}
"""Files of each kind in a run of all tests; by default 20. `make fuzz` goes on for hours."""


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzer]:
    made = Fuzzer(tmp_path_factory.mktemp("fuzz"))
    made.ready()
    yield made
    made.close()


def test_whole_files_are_read(fuzzer: Fuzzer) -> None:
    """Or the rest would show nothing."""
    wholes = {
        "picture": samples.pictures(), "weights": samples.checkpoints(), "tar": samples.tars(),
        "parquet": samples.tables()[:1], "array": samples.arrays(), "record": [samples.as_json(samples.record())],
        "people": [samples.as_json(samples.PEOPLE)], "training": [samples.as_json(samples.TRAINING)],
        "lora": samples.loras(), "state": [samples.state()], "preprocessor": [samples.as_json(samples.PREPROCESSOR)],
        "rows": [b"\n".join(map(samples.as_json, samples.ROWS))], "index": [samples.as_json(samples.INDEX)],
        "metrics": [b"\n".join(map(samples.as_json, samples.METRICS)) + b"\n"],
    }  # fmt: skip
    for kind, contents in wholes.items():
        for content in contents:
            assert fuzzer.read(kind, content) == ("loads", "")
    for name in places(fuzzer.folder):
        assert fuzzer.read("base", fuzzer.whole("base", name), name) == ("loads", "")
    for name in (f"{family}/config.json" for family in MAKE):
        assert fuzzer.read("controlnet", fuzzer.whole("controlnet", name), name) == ("loads", "")
    for name in FILES:
        assert fuzzer.read("net", fuzzer.whole("net", name), name) == ("loads", "")
    for name, body in REQUESTS.items():
        assert fuzzer.read("request", samples.as_json(body), name) == ("loads", "")


@pytest.mark.parametrize("kind", NAMES)
def test_broken_files(fuzzer: Fuzzer, kind: str) -> None:
    @settings(
        max_examples=EXAMPLES.get(kind, 20), deadline=None, derandomize=True, database=None,
        phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(fuzzer.strategy(kind))
    def each(case: tuple[str, bytes]) -> None:
        outcome, detail = fuzzer.read(kind, case[1], case[0])
        assert outcome in ("loads", "sentence"), detail

    each()


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_once_broke(fuzzer: Fuzzer, path: Path) -> None:
    kind, *place, _ = path.name.split("+")
    outcome, detail = fuzzer.read(kind, path.read_bytes(), "".join(place).replace("=", "/"))
    assert outcome in ("loads", "sentence"), detail
