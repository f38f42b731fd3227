import pytest

from maquette.foundation.files import atomic_write


def test_appears_whole(tmp_path) -> None:
    target = tmp_path / "deep" / "file.txt"
    with atomic_write(target) as path:
        path.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert [entry.name for entry in target.parent.iterdir()] == ["file.txt"]


def test_or_not_at_all(tmp_path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    def fall() -> None:
        with atomic_write(target) as path:
            path.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fall()
    assert target.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]
