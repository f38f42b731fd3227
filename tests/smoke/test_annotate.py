"""`maquette data annotate` from the command line: killed, resumed, and on a cluster."""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maquette.data.sources.open import open_source

ROWS = 60
COMMAND = (sys.executable, "-m", "maquette", "data", "annotate")
OPTIONS = ("--condition", "canny", "--shard-size", "2", "--workers", "2", "--no-texts")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Images that take a while, and a broken one."""
    folder = tmp_path_factory.mktemp("photos")
    values = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    image = Image.fromarray(values).resize((700, 700))
    for number in range(ROWS):
        image.save(folder / f"{number:02d}.jpg")
    (folder / "07.jpg").write_bytes(b"no image")
    return folder


def annotated(photos: Path, target: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, photos, target, *OPTIONS, *more], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory) -> Path:
    """The output of an uninterrupted run."""
    target = tmp_path_factory.mktemp("whole") / "pairs"
    done = annotated(photos, target)
    assert done.returncode == 0, done.stderr
    assert "07.jpg: '" in done.stdout
    assert f"{ROWS - 1} pairs are in {ROWS // 2} shards." in done.stdout
    assert "images/s" in done.stderr
    return target


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*"))}


def processes_of(target: Path) -> list[int]:
    """The processes with open files in the target."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _uses(path, target)]


def _uses(process: Path, target: Path) -> bool:
    try:
        return any(str(target) in str(file.readlink()) for file in (process / "fd").iterdir())
    except OSError:  # it has ended
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_run_resumes(photos, whole, tmp_path) -> None:
    target = tmp_path / "pairs"
    for least in (1, 8):
        run = subprocess.Popen([*COMMAND, photos, target, *OPTIONS], stderr=subprocess.DEVNULL)
        _wait_for(lambda least=least: len(list(target.glob("*.tar"))) >= least)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        _wait_for(lambda: not processes_of(target))  # workers end with their parent
    written = {path: path.stat().st_mtime_ns for path in target.glob("*.tar")}
    finished = {path.stem for path in (target / ".annotation").glob("0*.json")}
    assert 8 <= len(written) < ROWS // 2
    assert annotated(photos, target).returncode == 0
    assert contents(target) == contents(whole)
    assert all(path.stat().st_mtime_ns == then for path, then in written.items() if path.stem in finished)
    assert len(open_source(target)) == ROWS - 1


def _wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


@pytest.mark.skipif(find_spec("ray") is None, reason="needs maquette[scale]")
def test_a_cluster_writes_the_same_bytes(photos, whole, tmp_path) -> None:
    done = annotated(photos, tmp_path / "pairs", "--ray", "local")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "pairs") == contents(whole)


@pytest.mark.skipif(find_spec("ray") is None, reason="needs maquette[scale]")
def test_errors_on_a_cluster_are_reported(photos, tmp_path) -> None:
    done = annotated(photos, tmp_path / "pairs", "--ray", "127.0.0.1:1")
    assert (done.returncode, "There is no Ray cluster at '127.0.0.1:1'" in done.stderr) == (2, True), done.stderr
    options = ("--condition", "mlsd", "--weights", "nowhere", "--no-texts", "--ray", "local")
    done = subprocess.run([*COMMAND, photos, tmp_path / "lines", *options], capture_output=True, text=True, check=False)
    assert (done.returncode, "weights of mlsd 'nowhere'" in done.stderr) == (2, True), done.stderr
