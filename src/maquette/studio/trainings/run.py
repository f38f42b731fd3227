"""Trainings in processes of their own: started, stopped and resumed here, and found again by their folders.

Each is the project's own command in a session of its own, which writes into files alone. So nothing that happens to
the studio, to its terminal or to a page ends it, and a studio that starts later finds it.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from maquette.errors import MaquetteError, shortened
from maquette.foundation.files import holder, numbered
from maquette.studio.requests.fields import about
from maquette.studio.trainings.read import PRINTED, Training
from maquette.training.config import CONFIG, TrainingConfig

ASKED = "asked.json"  # the settings that a training was started with, also if it ends before its first step
ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "TQDM_MININTERVAL": "2", "HF_HUB_OFFLINE": "1"}  # a page starts no download
MOST = 200  # data sets to choose from
_NAME = re.compile(r"\w[\w.-]{0,63}")


class Trainings:
    """The trainings in a folder. All of it may be used from any thread.

    Args:
        root: each training has a folder in it; also those that were started by hand.
        pairs: data sets are folders in it.
        base: the base to train on, as for `load_base`.
        device: a torch device.
        private: folders that are no data sets, such as that of the pictures of others; `root` is none either.
    """

    def __init__(self, root: Path, pairs: Path, base: str, device: str, private: Iterable[Path] = ()) -> None:
        self.root, self.pairs, self.base, self.device = root, pairs, base, device
        self._private = [path.resolve() for path in (root, *private)]
        self._started: dict[Path, subprocess.Popen[bytes]] = {}
        self._one = threading.Lock()

    def listed(self) -> list[Training]:
        """All of them, the newest first."""
        folders = [path for path in self.root.glob("*/") if any((path / name).is_file() for name in (CONFIG, ASKED))]
        return [self.training(path.name) for path in sorted(folders, key=_begun, reverse=True)]

    def training(self, name: str) -> Training:
        """A training by name. Raises `MaquetteError` for a name that no training has."""
        folder = self._folder(name)
        if not folder.is_dir():
            raise MaquetteError(f"There is no training {name!r} in {str(self.root)!r}.")
        return Training.read(folder, self._on_its_way(folder))

    def nets(self) -> dict[str, str]:
        """The condition of each ControlNet that was trained here on this base, by its name for `load_controlnet`."""
        found = {}
        for training in self.listed():
            with suppress(MaquetteError):
                name, condition = training.net_on(self.base)
                found[name] = condition
        return found

    def start(self, name: str, settings: Mapping[str, Any]) -> Training:
        """Start a training.

        Args:
            name: of its folder; empty for the condition's with a number.
            settings: of `TrainingConfig`, by their names, other than its base, device and folders.

        Raises `MaquetteError` for settings that do not suit, for a name that is taken, and while another one runs.
        """
        with self._one:
            folder = self._folder(name) if name else self._free(str(settings.get("condition", "")))
            with about("name"):
                if (folder / CONFIG).exists():
                    raise MaquetteError(f"There is a training {name!r} already; resume it, or choose another name.")
            own = {"base": self.base, "device": self.device, "output": folder, "cache_folder": self.root / "cache"}
            config = TrainingConfig(**{**settings, **own})
            self._check_alone()
            folder.mkdir(parents=True, exist_ok=True)
            config.save(folder / ASKED)
            self._run(folder, [str(folder / ASKED)])
        return self.training(folder.name)

    def resume(self, name: str, until: int | None = None) -> Training:
        """Go on with a training that was stopped or killed; one that has not begun is started anew.

        Args:
            until: its last step, if that is to change.

        Raises `MaquetteError` for an unknown name, and while a training runs.
        """
        with self._one:
            self._check_alone()
            training = self.training(name)
            begun = training.config is not None
            steps = [] if until is None else [f"--max-steps={until}"]
            settings = training.folder / (CONFIG if begun else ASKED)
            self._run(training.folder, [str(settings), *steps, *(["--resume"] if begun else [])])
        return self.training(name)

    def stop(self, name: str) -> None:
        """Have a training finish its step, save and end. Raises `MaquetteError` for one of another machine."""
        folder = self._folder(name)
        held, started = holder(folder), self._started.get(folder)
        if held is not None and held[1] != socket.gethostname():
            raise MaquetteError(f"The training {name!r} runs on {held[1]}; stop it there.")
        if held is not None:
            os.kill(held[0], signal.SIGTERM)
        elif started is not None and started.poll() is None:
            started.terminate()

    def data(self, name: str) -> str:
        """The path of a data set. Raises `MaquetteError` for one that is not in the folder of data sets."""
        root = self.pairs.resolve()
        try:
            path = (root / name).resolve()
            suits = path != root and path.is_relative_to(root) and path.is_dir() and not self._touches_private(path)
        except (OSError, ValueError):  # no file can have this name
            suits = False
        with about("folder"):
            if not suits:
                raise MaquetteError(
                    f"Data sets are folders in {str(root)!r}, and {shortened(name, 80)!r} is none of them; choose "
                    "another, or start the studio with --pairs and the folder that they are in."
                )
        return str(path)

    def data_sets(self) -> list[str]:
        """Names of folders that may be data sets: those in the folder of data sets, but for private ones."""
        found = [path.name for path in self.pairs.glob("[!.]*/") if not self._touches_private(path.resolve())]
        return sorted(found)[:MOST]

    def _touches_private(self, path: Path) -> bool:
        """Whether a folder is in a private one, or holds one."""
        return any(path.is_relative_to(own) or own.is_relative_to(path) for own in self._private)

    def _run(self, folder: Path, arguments: list[str]) -> None:
        command = [sys.executable, "-m", "maquette", "train", *arguments, f"--output={folder}"]
        with (folder / PRINTED).open("ab") as printed:
            self._started[folder] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **ENVIRONMENT},
            )  # fmt: skip

    def _check_alone(self) -> None:
        """Raises `MaquetteError` while a training runs."""
        running = [training.name for training in self.listed() if training.state == "running"]
        if running:
            raise MaquetteError(f"The training {running[0]!r} is running; wait for its end, or stop it first.")

    def _on_its_way(self, folder: Path) -> bool:
        started = self._started.get(folder)
        return started is not None and started.poll() is None

    def _folder(self, name: str) -> Path:
        with about("name"):
            if not _NAME.fullmatch(name):
                raise MaquetteError(
                    "The name of a training has letters, digits, -, _ and ., 64 at most, and begins with a letter or "
                    f"digit; {shortened(name, 80)!r} does not."
                )
        return self.root / name

    def _free(self, condition: str) -> Path:
        """The first folder named after a condition with a number that is not there yet."""
        stem = condition if _NAME.fullmatch(condition) else "training"
        return next(path for path in numbered(self.root / stem) if not path.exists())


def _begun(folder: Path) -> float:
    """When a training was started."""
    return next((path.stat().st_mtime for name in (ASKED, CONFIG) if (path := folder / name).is_file()), 0.0)
