"""`maquette data annotate` as a user calls it: killed, begun again, on a cluster."""

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
ASKED = ("--condition", "canny", "--shard-size", "2", "--workers", "2", "--no-texts")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Images that take a while, and one that is none."""
    folder = tmp_path_factory.mktemp("photos")
    values = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    image = Image.fromarray(values).resize((700, 700))
    for number in range(ROWS):
        image.save(folder / f"{number:02d}.jpg")
    (folder / "07.jpg").write_bytes(b"no image")
    return folder


def annotated(photos: Path, target: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, photos, target, *ASKED, *more], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory) -> Path:
    """What a run without interruption makes."""
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
    """Those whose open files, or whose words, name the target."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _is_of(path, target)]


def _is_of(process: Path, target: Path) -> bool:
    try:
        return any(str(target) in str(file.readlink()) for file in (process / "fd").iterdir())
    except OSError:  # it has ended
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_killed_at_any_moment_it_goes_on(photos, whole, tmp_path) -> None:
    target = tmp_path / "pairs"
    for least in (1, 8):
        run = subprocess.Popen([*COMMAND, photos, target, *ASKED], stderr=subprocess.DEVNULL)
        _wait_for(lambda least=least: len(list(target.glob("*.tar"))) >= least)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        _wait_for(lambda: not processes_of(target))  # workers do not outlive the one they work for
    there = {path: path.stat().st_mtime_ns for path in target.glob("*.tar")}
    noted = {path.stem for path in (target / ".annotation").glob("0*.json")}
    assert 8 <= len(there) < ROWS // 2
    assert annotated(photos, target).returncode == 0
    assert contents(target) == contents(whole)
    assert all(path.stat().st_mtime_ns == then for path, then in there.items() if path.stem in noted)
    assert len(open_source(target)) == ROWS - 1


def _wait_for(is_so) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


@pytest.mark.skipif(find_spec("ray") is None, reason="needs maquette[scale]")
def test_a_cluster_makes_the_same_bytes(photos, whole, tmp_path) -> None:
    done = annotated(photos, tmp_path / "pairs", "--ray", "local")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "pairs") == contents(whole)


@pytest.mark.skipif(find_spec("ray") is None, reason="needs maquette[scale]")
def test_what_fails_on_a_cluster_is_a_sentence(photos, tmp_path) -> None:
    done = annotated(photos, tmp_path / "pairs", "--ray", "127.0.0.1:1")
    assert (done.returncode, "There is no Ray cluster at '127.0.0.1:1'" in done.stderr) == (2, True), done.stderr
    asked = ("--condition", "mlsd", "--weights", "nowhere", "--no-texts", "--ray", "local")
    done = subprocess.run([*COMMAND, photos, tmp_path / "lines", *asked], capture_output=True, text=True, check=False)
    assert (done.returncode, "weights of mlsd 'nowhere'" in done.stderr) == (2, True), done.stderr
