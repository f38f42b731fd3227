"""Files are written whole or not at all, and what killed writers leave is swept."""

import signal
import subprocess
import sys

import pytest

from maquette.foundation import files
from maquette.foundation.files import UNFINISHED, atomic_files, atomic_write


def test_a_file_appears_when_complete(tmp_path) -> None:
    target = tmp_path / "deep" / "file.txt"
    with atomic_write(target) as path:
        path.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert [entry.name for entry in target.parent.iterdir()] == ["file.txt"]


def test_a_failed_write_keeps_the_old_file(tmp_path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    def fail() -> None:
        with atomic_write(target) as path:
            path.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


WRITE = """
import sys, time
from pathlib import Path
from maquette.foundation.files import atomic_write
with atomic_write(Path(sys.argv[1])) as path:
    path.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_only_what_a_killed_writer_left_is_swept(tmp_path, monkeypatch) -> None:
    command = [sys.executable, "-c", WRITE]
    writers = [
        subprocess.Popen([*command, str(tmp_path / name)], stdout=subprocess.PIPE, text=True)
        for name in ("killed.png", "alive.png")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
    (tmp_path / ".killed-by-hand.png").write_text("the user's own")
    writers[0].send_signal(signal.SIGKILL)
    writers[0].communicate()
    assert len(list(tmp_path.glob(f".*{UNFINISHED}*"))) == 2
    monkeypatch.setattr(files, "_swept", set())
    with atomic_write(tmp_path / "next.png") as path:
        path.write_text("whole")
    (left,) = tmp_path.glob(f".*{UNFINISHED}*")
    assert left.name.startswith(".alive")
    assert (tmp_path / ".killed-by-hand.png").exists()
    writers[1].kill()
    writers[1].communicate()


def test_a_name_as_long_as_the_disk_allows_can_be_written(tmp_path) -> None:
    target = tmp_path / ("n" * 251 + ".png")
    with atomic_write(target) as path:
        path.write_text("whole")
    assert target.read_text() == "whole"


def test_files_of_a_folder_appear_whole_and_what_is_there_stays(tmp_path) -> None:
    folder = tmp_path / "base"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "config.json").write_text("old")
    (folder / "notes.txt").write_text("the user's own")

    def write(fails: bool) -> None:
        with atomic_files(folder) as temporary:
            (temporary / "unet").mkdir()
            (temporary / "unet" / "config.json").write_text("new")
            (temporary / "index.json").write_text("new")
            if fails:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        write(fails=True)
    assert (folder / "unet" / "config.json").read_text() == "old"
    write(fails=False)
    found = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {
        "base/unet/config.json": "new",
        "base/index.json": "new",
        "base/notes.txt": "the user's own",
    }
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_a_killed_writer_left_is_swept(tmp_path, monkeypatch) -> None:
    left = tmp_path / f".base{UNFINISHED}abc"
    (left / "unet").mkdir(parents=True)
    monkeypatch.setattr(files, "_swept", set())
    with atomic_write(tmp_path / "file.txt") as path:
        path.write_text("whole")
    assert not left.exists()
