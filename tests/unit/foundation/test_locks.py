"""One writer a folder: a second one is told who the first is, and a killed one leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from maquette.errors import MaquetteError
from maquette.foundation.files import LOCK, OWNER, exclusive, holder

HOLD = """
import sys, time
from pathlib import Path
from maquette.foundation.files import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_another_process_is_named_and_its_lock_ends_with_it(tmp_path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    words = f"is being written by process {other.pid} on {socket.gethostname()}"
    with pytest.raises(MaquetteError, match=words), exclusive(tmp_path):
        pass
    other.send_signal(signal.SIGKILL)
    other.communicate()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with exclusive(tmp_path):
                break
        except MaquetteError:
            time.sleep(0.1)
    else:
        pytest.fail("a killed process kept its lock")


def test_it_is_told_who_holds_a_folder(tmp_path) -> None:
    assert holder(tmp_path) is None
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    assert holder(tmp_path) == (other.pid, socket.gethostname())
    other.kill()
    other.communicate()
    assert (tmp_path / OWNER).exists() and holder(tmp_path) is None, (
        "who was killed still stands there, and holds nothing"
    )
    (tmp_path / OWNER).write_text(f"process {os.getpid()} on {socket.gethostname()}")
    assert holder(tmp_path) is None, "another process has its number by now, and does not hold the lock"
    with exclusive(tmp_path):
        pass
    assert holder(tmp_path) is None


def test_a_lock_is_let_go_of_after_an_error_too(tmp_path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path):
        raise ZeroDivisionError
    with exclusive(tmp_path):
        assert (tmp_path / ".owner").read_text().startswith(f"process {os.getpid()} on ")
    assert {path.name for path in tmp_path.iterdir()} <= {LOCK}
