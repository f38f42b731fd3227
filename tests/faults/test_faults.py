"""Every write, rename, sync and creation of a file may fail: the disk says so, stays full, or the process is killed.

The writer is then run again. Nothing but a sentence may come of the fault; no file with a final name is half written;
what counted as saved is there; and in the end all is bit for bit as without it, or what differs is said. A few places
of each writer are tried by `make test`, all of them by `make faults`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
COMPILER = shutil.which("cc")
SAMPLE = {"training": (1, 1300), "annotation": (3, 5), "generation": (2, 5), "conversion": (2, 50)}
"""How many places of each are tried, and the first."""
FEW = {**SAMPLE, "sharded training": (1, 800)}
ALL = (*FEW, "sharded training, other process", "measured training", "unlocked training", "annotation to Parquet")

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or COMPILER is None, reason="needs a C compiler, and the dynamic linker of Linux"
)


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    """What makes calls of the system fail, compiled."""
    path = tmp_path_factory.mktemp("faults") / "fault.so"
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-O1", "-o", path, HERE / "fault.c", "-ldl"], check=True)
    return path


def inject(library: Path, scenario: str, *options: int | str) -> dict[str, Any]:
    """The outcomes of a scenario, by name."""
    done = subprocess.run(
        [sys.executable, str(HERE / "injector.py"), scenario, *map(str, options)],
        env={**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(scenario, outcomes, done.stdout)  # for the tables of docs/reliability.md
    return outcomes


@pytest.mark.parametrize(
    "scenario", [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.slow) for name in FEW]
)
def test_a_few_faults(library, scenario) -> None:
    outcomes = inject(library, scenario, *FEW[scenario])
    assert outcomes["tried"] >= 3 * FEW[scenario][0]
    assert outcomes.get("equal", 0) > 0
    assert outcomes["failures"] == 0


@pytest.mark.parametrize("scenario", ["conversion", pytest.param("generation", marks=pytest.mark.slow)])
def test_disks_of_a_few_sizes(library, scenario) -> None:
    """The disk is full after so many bytes, in the middle of a write."""
    outcomes = inject(library, scenario, 3, "disks")
    assert outcomes["equal"] == outcomes["tried"] >= 3


@pytest.mark.parametrize("scenario", SAMPLE)
def test_where_another_user_may_not_write_a_sentence_says_so(library, scenario) -> None:
    found = inject(library, scenario, "closed")
    assert found["ended"] == "said", found["text"]
    assert "Traceback" not in found["text"]
    assert "ermission denied" in found["text"] and "work" in found["text"]
    assert not found["changed"]


def test_a_careless_writer_is_caught(library) -> None:
    assert inject(library, "careless")["failures"] > 0
    assert inject(library, "careless", 5, "disks")["failures"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ALL)
def test_all_faults(library, scenario) -> None:
    outcomes = inject(library, scenario)
    assert outcomes["tried"] == 3 * outcomes["places"]
    assert outcomes["failures"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ALL)
def test_disks_of_all_sizes(library, scenario) -> None:
    outcomes = inject(library, scenario, 100, "disks")
    assert outcomes["tried"] >= 100
    assert outcomes["failures"] == 0
