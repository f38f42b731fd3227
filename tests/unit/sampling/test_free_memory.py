"""Limits of control groups, of both versions, as they lie in the file system."""

from pathlib import Path

import pytest

from maquette.sampling.memory import free as module
from maquette.sampling.memory.free import free_memory

GIB = 2**30
NAMES = {"new": ("memory.max", "memory.current", "inactive_file"),
         "old": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")}  # fmt: skip


def group(folder: Path, version: str, limit: object, use: int, kept: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    limit_file, use_file, kept_name = NAMES[version]
    (folder / limit_file).write_text(f"{limit}\n")
    (folder / use_file).write_text(f"{use}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{kept_name} {kept}\n")


@pytest.fixture(params=["new", "old"])
def place(request, tmp_path, monkeypatch) -> tuple[str, Path]:
    """A version, and the folder of its groups; this process is in /outer/inner of 100 GiB that the machine has."""
    processes, groups = tmp_path / "proc", tmp_path / "cgroup"
    (processes / "self").mkdir(parents=True)
    (processes / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {100 * 2**20} kB\n")
    (processes / "self" / "status").write_text("Name: x\nVmSize: 1000 kB\n")
    lines = {"new": "0::/outer/inner\n", "old": "8:pids:/other\n5:cpu,memory:/outer/inner\n0::/\n"}
    (processes / "self" / "cgroup").write_text(lines[request.param])
    groups.mkdir()
    monkeypatch.setattr(module, "PROCESSES", processes)
    monkeypatch.setattr(module, "GROUPS", groups)
    return request.param, groups if request.param == "new" else groups / "memory"


def test_without_a_limit_it_is_the_machine_s(place) -> None:
    version, folder = place
    assert free_memory() == 100 * GIB
    group(folder / "outer" / "inner", version, "max" if version == "new" else 2**63 - 4096, GIB)
    assert free_memory() == 100 * GIB


def test_the_narrowest_group_counts_and_kept_files_give_way(place) -> None:
    version, folder = place
    group(folder / "outer" / "inner", version, 9 * GIB, 5 * GIB, 2 * GIB)
    assert free_memory() == 6 * GIB
    group(folder / "outer", version, 10 * GIB, 8 * GIB)
    assert free_memory() == 2 * GIB
    group(folder / "outer", version, 10 * GIB, 11 * GIB)
    assert free_memory() == 0


def test_in_a_container_the_group_is_the_root_of_what_is_seen(place) -> None:
    version, folder = place
    group(folder, version, 4 * GIB, GIB)
    assert free_memory() == 3 * GIB


def test_what_cannot_be_read_is_no_limit(place) -> None:
    version, folder = place
    group(folder / "outer" / "inner", version, "nonsense", GIB)
    assert free_memory() == 100 * GIB
    (module.PROCESSES / "self" / "cgroup").unlink()
    assert free_memory() == 100 * GIB
    (module.PROCESSES / "meminfo").unlink()
    assert free_memory() is None
