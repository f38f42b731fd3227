"""Pictures on disk: whole, by session, over restarts."""

import os
import time

import pytest
from PIL import Image

from maquette.errors import MaquetteError
from maquette.sampling.metadata import KEY, Record, image_hash
from maquette.studio.gallery import SECRET, Gallery, MissingError
from maquette.studio.requests.limits import Limits


def made(seed: int) -> Image.Image:
    """An image with a record, as `generate` returns it."""
    image = Image.new("RGB", (16, 16), (seed, 0, 0))
    settings = {"seed": seed, "count": 1, "size": [16, 16]}
    image.info[KEY] = Record("diorama", "a house", "float32", settings, pixels=image_hash(image)).to_json()
    return image


def test_pictures_and_keys_survive_a_restart_and_uploads_do_not(tmp_path) -> None:
    session = Gallery(tmp_path).create()
    name, upload = session.add(made(3), 3), session.upload(b"content")
    assert session.file(upload) == b"content"
    again = Gallery(tmp_path).session(session.key)
    assert [entry.name for entry in again.pictures()] == [name] and again.record(name).settings["seed"] == 3
    with pytest.raises(MissingError, match="upload the file first"):
        again.file(upload)


def test_folders_tell_no_key_and_idle_sessions_leave_nothing(tmp_path) -> None:
    gallery = Gallery(tmp_path)
    session = gallery.create()
    gallery.create()
    session.add(made(1), 1)
    names = [path.name for path in tmp_path.iterdir()]
    assert sorted(names) == sorted([SECRET, session.client])
    assert session.key[:32] not in "".join(names)
    assert os.stat(tmp_path / SECRET).st_mode & 0o077 == 0  # noqa: PTH116 - the mode


def test_keys_of_another_gallery_open_nothing(tmp_path) -> None:
    key = Gallery(tmp_path / "a").create().key
    with pytest.raises(MissingError, match="no such session"):
        Gallery(tmp_path / "b").session(key)


def test_what_a_killed_process_left_is_removed_and_not_listed(tmp_path) -> None:
    session = Gallery(tmp_path).create()
    name = session.add(made(1), 1)
    folder = session.path(name).parent
    (folder / f".{name}.maquette-abc.png").write_bytes(b"half")
    (folder / "stranger.png").write_bytes(b"half")
    assert [entry.name for entry in session.pictures()] == [name]


def test_a_session_keeps_so_many(tmp_path) -> None:
    session = Gallery(tmp_path, Limits(pictures=1, uploads=1, picture_bytes=10)).create()
    session.add(made(1), 1)
    with pytest.raises(MaquetteError, match="keeps 1 pictures"):
        session.add(made(2), 2)
    with pytest.raises(MaquetteError, match="10 bytes at most"):
        session.upload(b"x" * 11)
    session.upload(b"x")
    with pytest.raises(MaquetteError, match="holds 1 uploads"):
        session.upload(b"x")
    session.end()
    assert session.upload(b"x")


def test_a_session_ends_after_a_time_without_use(tmp_path) -> None:
    gallery = Gallery(tmp_path, idle=0.05)
    session = gallery.create()
    upload = session.upload(b"x")
    assert session.file(upload) == b"x"
    time.sleep(0.1)
    gallery.create()
    with pytest.raises(MissingError):
        session.file(upload)


def test_deleting_several_deletes_all_or_none(tmp_path) -> None:
    session = Gallery(tmp_path).create()
    names = [session.add(made(seed), seed) for seed in (1, 2)]
    with pytest.raises(MissingError):
        session.delete([names[0], "../x.png"])
    assert len(session.pictures()) == 2
    session.delete(names)
    assert session.pictures() == []


def test_folders_of_others_stay_as_they_are(tmp_path) -> None:
    """A gallery may be begun where somebody keeps other things."""
    for folder in ("wp-content/uploads", "pictures", "a" * 31 + "/uploads"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "photo.jpg").write_bytes(b"mine")
    Gallery(tmp_path)
    assert len(list(tmp_path.rglob("photo.jpg"))) == 3


def test_what_is_deleted_meanwhile_is_not_there(tmp_path, monkeypatch) -> None:
    session = Gallery(tmp_path).create()
    name = session.add(made(1), 1)
    path = session.path(name)
    path.unlink()
    monkeypatch.setattr(session, "path", lambda name: path)  # found, and deleted before it is opened
    with pytest.raises(MissingError, match="There is no picture"):
        session.read(name)
    monkeypatch.setattr("pathlib.Path.glob", lambda *_: iter([path]))
    assert session.pictures() == []
