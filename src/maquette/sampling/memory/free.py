"""How much memory this process may still take, as Linux says."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

from maquette.foundation.memory import glibc

PROCESSES, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
NEW = ("memory.max", "memory.current", "inactive_file")
OLD = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
"""Of a control group, in version 2 and 1: files with its limit and its use, and what its statistics call kept files."""


def free_memory() -> int | None:
    """Bytes of the machine's memory, swap included, that this process may still take; None where Linux does not say it.

    What the process is limited to, by itself (`ulimit -v`) or with others (a control group), counts too.
    """
    try:
        import resource  # which Windows has not

        machine, own = (_fields(PROCESSES / name) for name in ("meminfo", "self/status"))
        free = [machine["MemAvailable"] + machine.get("SwapFree", 0)]
        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        free += [most - own["VmSize"] + _kept()] if most != resource.RLIM_INFINITY else []
    except (ImportError, OSError, KeyError):
        return None
    return max(0, min([*free, *_free_in_groups()]))


class _MallInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _NAMES = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in _NAMES]


def _kept() -> int:
    """Bytes that glibc holds in the process for later allocations, or 0 with another library."""
    library = glibc()
    if library is None or not hasattr(library, "mallinfo2"):
        return 0
    library.mallinfo2.restype = _MallInfo
    return int(library.mallinfo2().fordblks)


def _fields(path: Path) -> dict[str, int]:
    """Bytes by name, from lines such as "VmSize:  4 kB"."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return {row[0].rstrip(":"): 1024 * int(row[1]) for row in rows if row[-1:] == ["kB"]}


def _free_in_groups() -> Iterator[int]:
    """Bytes that each control group around this process may still take, if it has a limit."""
    try:
        lines = (PROCESSES / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if not kinds:
            yield from _free_along(GROUPS, path, NEW)
        elif "memory" in kinds.split(","):
            yield from _free_along(GROUPS / "memory", path, OLD)


def _free_along(root: Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    """The same of a group and of those that it is in; files that are kept in memory give way."""
    limit, use, kept = names
    own = root / path.lstrip("/")
    for group in (own, *own.parents[: len(own.parents) - len(root.parents)]):
        try:
            most, used = ((group / name).read_text().strip() for name in (limit, use))
            rows = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            if most != "max":
                yield int(most) - int(used) + int(rows.get(kept, 0))
        except (OSError, ValueError):  # a container does not see the groups around it
            continue
