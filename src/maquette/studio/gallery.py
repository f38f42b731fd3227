"""Pictures on disk, by session: written whole or not at all, and out of reach of every other session.

    ROOT/SESSION/pictures/20260131-093000-7-4f1c09ab.png    kept until they are deleted
    ROOT/SESSION/uploads/4f1c09ab2d3e                       kept until the session ends

A session is known by its key, which the gallery signs, and its folder by the key's hash: who reads the folders learns
no key, and a session that keeps nothing has no folder.
This module does not import torch.
"""

import hmac
import io
import re
import secrets
import shutil
import threading
import time
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from maquette.errors import MaquetteError, shortened
from maquette.foundation.files import atomic_write, sweep, text_hash
from maquette.foundation.reading.files import read_bytes
from maquette.sampling.metadata import Record, files_of, save
from maquette.studio.requests.limits import Limits

PICTURES, UPLOADS = "pictures", "uploads"
SECRET = ".secret"  # signs the keys
_KEY = re.compile(r"([A-Za-z0-9_-]{32})\.([0-9a-f]{32})")
_FOLDER = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9]{1,20}-[0-9a-f]{8}\.png")
_UPLOAD = re.compile(r"[0-9a-f]{12}")
LARGEST = 2**28  # bytes of a picture with its record
SPARE = 2**29  # bytes of the disk that stay free


class MissingError(MaquetteError):
    """A session, or a file of one, that is not there."""


@dataclass(frozen=True)
class Entry:
    """A picture of a session."""

    name: str
    made: float  # seconds since 1970
    bytes: int


class Session:
    """The pictures and uploads of one visitor."""

    def __init__(self, folder: Path, key: str, limits: Limits) -> None:
        self.key, self._folder, self._limits = key, folder, limits

    @property
    def client(self) -> str:
        """What tells it from others in a queue, and is no secret."""
        return self._folder.name

    def add(self, image: Image.Image, seed: int) -> str:
        """Keep a generated picture with its record, and return its name.

        Raises `MaquetteError` if it carries no record, or there are too many.
        """
        self.check_room(1)
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{seed}-{secrets.token_hex(4)}.png"
        save(image, self._folder / PICTURES / name)
        return name

    def check_room(self, count: int) -> None:
        """Raises `MaquetteError` if so many more pictures cannot be kept."""
        _check_disk(self._folder.parent)
        if len(self.pictures()) + count > self._limits.pictures:
            raise MaquetteError(f"A session keeps {self._limits.pictures} pictures; delete some of them.")

    def pictures(self) -> list[Entry]:
        """All of them, the newest first."""
        found = []
        for path in (self._folder / PICTURES).glob("*.png"):
            with suppress(FileNotFoundError):  # deleted meanwhile
                if _NAME.fullmatch(path.name):
                    seen = path.stat()
                    found.append(Entry(path.name, seen.st_mtime, seen.st_size))
        return sorted(found, key=lambda entry: (entry.made, entry.name), reverse=True)

    def path(self, name: str) -> Path:
        """The file of a picture. Raises `MaquetteError` for any name but those of this session's pictures."""
        path = self._folder / PICTURES / name if _NAME.fullmatch(name) else None
        if path is None or not path.is_file():
            raise _missing(name)
        return path

    def read(self, name: str) -> bytes:
        """The PNG of a picture, with its record inside. Raises `MaquetteError` as `path` does."""
        try:
            return read_bytes(self.path(name), LARGEST)
        except FileNotFoundError:  # deleted meanwhile
            raise _missing(name) from None

    def record(self, name: str) -> Record:
        """How a picture was made. Raises `MaquetteError` as `path` does, and for a file that was damaged."""
        return Record.load(self.path(name))

    def delete(self, names: Sequence[str]) -> None:
        """Delete pictures. Raises `MaquetteError` as `path` does, before any is deleted."""
        for path in [self.path(name) for name in names]:
            for file in files_of(path):
                file.unlink(missing_ok=True)

    def zip(self, names: Sequence[str]) -> bytes:
        """A zip archive of pictures, as they are. Raises `MaquetteError` as `path` does, and without a name."""
        if not names:
            raise MaquetteError("Choose the pictures to put into the archive.")
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name in dict.fromkeys(names):
                for path in filter(Path.is_file, files_of(self.path(name))):
                    archive.write(path, path.name)
        return stream.getvalue()

    def upload(self, content: bytes) -> str:
        """Keep a file for this session's requests, until it ends; returns its name.

        Raises `MaquetteError` for a file that is too large, and for too many.
        """
        if len(content) > self._limits.picture_bytes:
            raise MaquetteError(f"An upload has {self._limits.picture_bytes:,} bytes at most, not {len(content):,}.")
        _check_disk(self._folder.parent)
        if len(list((self._folder / UPLOADS).glob("[!.]*"))) >= self._limits.uploads:
            raise MaquetteError(f"A session holds {self._limits.uploads} uploads; end it, or use those that are there.")
        name = secrets.token_hex(6)
        with atomic_write(self._folder / UPLOADS / name) as temporary:
            temporary.write_bytes(content)
        return name

    def file(self, name: str) -> bytes:
        """An upload or a picture by its name. Raises `MaquetteError` for any other name."""
        if _NAME.fullmatch(name):
            return self.read(name)
        path = self._folder / UPLOADS / name if _UPLOAD.fullmatch(name) else None
        if path is None or not path.is_file():
            raise MissingError(f"There is no upload {shortened(name, 80)!r} in this session; upload the file first.")
        return read_bytes(path, self._limits.picture_bytes)

    def end(self) -> None:
        """Remove the uploads; pictures stay until they are deleted."""
        shutil.rmtree(self._folder / UPLOADS, ignore_errors=True)


class Gallery:
    """The sessions in a folder. What a killed process left half-written, and its uploads, are removed at the start.

    Args:
        idle: seconds without use after which a session ends, which removes its uploads.
    """

    def __init__(self, root: Path, limits: Limits | None = None, idle: float = 24 * 3600) -> None:
        self.root, self._limits, self._idle = Path(root), limits or Limits(), idle
        self._used: dict[str, float] = {}
        self._lock = threading.Lock()
        self.root.mkdir(parents=True, exist_ok=True)
        self._secret = _secret(self.root / SECRET)
        for folder in filter(_is_session, self.root.glob("*/")):
            sweep(folder / PICTURES)
            shutil.rmtree(folder / UPLOADS, ignore_errors=True)

    def create(self) -> Session:
        """A new session."""
        key = secrets.token_urlsafe(24)
        return self.session(f"{key}.{self._signature(key)}")

    def session(self, key: str) -> Session:
        """The session of a key. Raises `MaquetteError` for a key that was not given out here."""
        match = _KEY.fullmatch(key)
        if match is None or not hmac.compare_digest(match[2], self._signature(match[1])):
            raise MissingError("There is no such session here; begin a new one.")
        session = Session(self._folder(key), key, self._limits)
        self._note_use(session)
        return session

    def _note_use(self, used: Session) -> None:
        """Remember when a session was used, and end those that were not for long."""
        now = time.monotonic()
        with self._lock:
            self._used[used.key] = now
            idle = [key for key, last in self._used.items() if now - last > self._idle]
            for key in idle:
                del self._used[key]
        for key in idle:
            Session(self._folder(key), key, self._limits).end()

    def _signature(self, key: str) -> str:
        return hmac.new(self._secret, key.encode(), "sha256").hexdigest()[:32]

    def close(self) -> None:
        """End all sessions."""
        for key in list(self._used):
            Session(self._folder(key), key, self._limits).end()

    def _folder(self, key: str) -> Path:
        return self.root / text_hash(key)[:32]


def _secret(path: Path) -> bytes:
    """The gallery's secret, which is drawn once: keys hold over restarts."""
    if not path.exists():
        with atomic_write(path) as temporary:
            temporary.write_bytes(secrets.token_bytes(32))
        path.chmod(0o600)
    return read_bytes(path, 32)


def _check_disk(folder: Path) -> None:
    """Raises `MaquetteError` where the disk is nearly full."""
    if shutil.disk_usage(folder).free < SPARE:
        raise MaquetteError("The studio's disk is nearly full, so nothing can be kept; delete some pictures.")


def _missing(name: str) -> MissingError:
    return MissingError(f"There is no picture {shortened(name, 80)!r} in this session; list them.")


def _is_session(folder: Path) -> bool:
    """Whether a folder is a session's, and not another that somebody has beside them."""
    return _FOLDER.fullmatch(folder.name) is not None
