"""Weights that detectors need and the package does not bring: pinned, fetched once into the Hub's cache, checked."""

import hashlib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.registry import unknown


@dataclass(frozen=True)
class WeightSource:
    """Files of a repository on the Hugging Face Hub."""

    repository: str
    files: Mapping[str, str | None]  # name → SHA-256; None where none was published: the revision alone pins it
    megabytes: int
    licence: str
    revision: str = "main"  # a commit, where it is known

    @property
    def command(self) -> str:
        """What fetches it into the cache, for machines that go online at other times."""
        return f"hf download {self.repository} {' '.join(self.files)} --revision {self.revision}"


@dataclass(frozen=True)
class Parts:
    """Weights of networks that work together, each from a repository of its own.

    A folder of the user's holds a folder for each, by the part's name.
    """

    parts: Mapping[str, WeightSource]

    @property
    def megabytes(self) -> int:
        return sum(one.megabytes for one in self.parts.values())

    @property
    def licence(self) -> str:
        return ", ".join(dict.fromkeys(one.licence for one in self.parts.values()))

    @property
    def command(self) -> str:
        return " && ".join(one.command for one in self.parts.values())


def locate(detector: str, known: Mapping[str, WeightSource], weights: str | Path | None) -> Path:
    """Where a detector's weights lie: the file, or where they are several the folder.

    Args:
        weights: a name among `known`, a file or folder of the user's, or None for the usual ones.

    Raises `MaquetteError` where there are none, and what was fetched does not have the SHA-256 that it must have.
    """
    own = users_own(detector, list(known), weights)
    return own or fetch(detector, known[str(weights)] if weights else next(iter(known.values())))


def locate_parts(detector: str, known: Mapping[str, Parts], weights: str | Path | None) -> dict[str, Path]:
    """Where each part of a detector's weights lies, by its name; as `locate`."""
    own = users_own(detector, list(known), weights)
    chosen = known[str(weights)] if weights and not own else next(iter(known.values()))
    return {name: own / name if own else fetch(detector, one) for name, one in chosen.parts.items()}


def users_own(detector: str, known: list[str], weights: str | Path | None) -> Path | None:
    """The file or folder that is given as weights; None where published ones are meant."""
    if weights is None or str(weights) in known:
        return None
    path = Path(weights)
    if not path.exists():
        raise MaquetteError(
            f"{unknown(f'weights of {detector}', str(weights), known).rstrip('.')}; nor is there a file or folder of "
            "that name."
        )
    return path


def fetch(detector: str, published: WeightSource) -> Path:
    """The file from the Hub's cache, or from the Hub, saying so; of several files the folder."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, revision = published.repository, published.revision
    paths = []
    for name, digest in published.files.items():
        cached = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(cached, str):
            paths.append(Path(cached))
            continue
        if not paths and not _offline():
            warnings.warn(
                f"{detector} fetches its weights once, {published.megabytes} MB from {repository} "
                f"({published.licence}).",
                MaquetteWarning,
                stacklevel=2,
            )
        try:
            path = Path(hf_hub_download(repository, name, revision=revision))
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            raise MaquetteError(
                f"{detector} needs {name} of {repository} ({published.megabytes} MB, {published.licence}), which is "
                f"not in the Hub's cache and cannot be fetched now. Online: {published.command}. Or name a copy "
                "of your own as weights, which maquette detect and maquette data annotate take."
            ) from error
        _check(path, digest, name, repository)
        paths.append(path)
    return paths[0] if len(paths) == 1 else paths[0].parent


def _check(path: Path, digest: str | None, name: str, repository: str) -> None:
    if digest is None:
        return
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != digest:
        path.resolve().unlink()
        raise MaquetteError(
            f"{name} of {repository} is not what it was when it was checked (SHA-256 {found}, expected {digest}); "
            "it was removed. Try again, or give a copy of your own as weights."
        )


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE") == "1")
