"""The process's memory, and garbage while libraries are imported."""

import gc
import platform
import subprocess
import sys

import pytest

from maquette.foundation.memory import importing

PROGRAM = """
from pathlib import Path
import numpy as np
from maquette.foundation.memory import keep_freed, return_freed
def resident():
    print(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])
keep_freed()
values = [np.ones(2**18) for _ in range(100)]  # 2 MiB each
resident()
del values
resident()
return_freed()
resident()
"""


def test_garbage_is_looked_for_again_even_after_an_import_that_failed() -> None:
    assert gc.isenabled()
    try:
        with pytest.raises(ModuleNotFoundError), importing():
            import no_such_library  # noqa: F401
        assert gc.isenabled()
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()


def test_garbage_is_not_looked_for_meanwhile() -> None:
    try:
        with importing():
            enabled = gc.isenabled()
        assert not enabled
    finally:
        gc.unfreeze()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's memory")
def test_freed_memory_that_is_kept_is_returned_when_asked() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=60)
    held, kept, returned = map(int, done.stdout.split())
    assert kept > held - 100_000  # kB
    assert returned < kept - 100_000
