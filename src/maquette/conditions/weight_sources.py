"""Detector weights that the package does not ship: pinned, downloaded once into the Hub's cache, and checked."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.reading.files import file_hash
from maquette.foundation.registry import unknown


@dataclass(frozen=True)
class WeightSource:
    """Files of a repository on the Hugging Face Hub."""

    repository: str
    files: Mapping[str, str | None]  # name → SHA-256; None where unknown: the revision pins it
    megabytes: int
    licence: str
    revision: str = "main"  # a commit where known

    @property
    def command(self) -> str:
        """The command that downloads it into the cache ahead of time."""
        return f"hf download {self.repository} {' '.join(self.files)} --revision {self.revision}"


@dataclass(frozen=True)
class Parts:
    """Weights of networks that work together, each from a separate repository.

    A local copy is a folder with one subfolder per part, named after it.
    """

    parts: Mapping[str, WeightSource]

    @property
    def megabytes(self) -> int:
        return sum(part.megabytes for part in self.parts.values())

    @property
    def licence(self) -> str:
        return ", ".join(dict.fromkeys(part.licence for part in self.parts.values()))

    @property
    def command(self) -> str:
        return " && ".join(part.command for part in self.parts.values())


def is_cached(published: WeightSource | Parts) -> bool:
    """Whether all files of published weights are in the Hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    if isinstance(published, Parts):
        return all(is_cached(part) for part in published.parts.values())
    places = (published.repository, published.revision)
    found = (try_to_load_from_cache(places[0], name, revision=places[1]) for name in published.files)
    return all(isinstance(path, str) for path in found)


def locate(detector: str, known: Mapping[str, WeightSource], weights: str | Path | None) -> Path:
    """The path of a detector's weights: the file, or the folder where there are several files.

    Args:
        weights: a name among `known`, a local file or folder, or None for the first of `known`.

    Raises `MaquetteError` where they cannot be found or downloaded, and where a download has the wrong SHA-256.
    """
    local = local_weights(detector, list(known), weights)
    return local or fetch(detector, known[str(weights)] if weights else next(iter(known.values())))


def locate_parts(detector: str, known: Mapping[str, Parts], weights: str | Path | None) -> dict[str, Path]:
    """The path of each part of a detector's weights, by name. Raises `MaquetteError` as `locate` does."""
    local = local_weights(detector, list(known), weights)
    published = known[str(weights)] if weights and not local else next(iter(known.values()))
    return {name: local / name if local else fetch(detector, part) for name, part in published.parts.items()}


def local_weights(detector: str, known: list[str], weights: str | Path | None) -> Path | None:
    """The local file or folder that `weights` names; None where published ones are meant.

    Raises `MaquetteError` for weights that are neither published nor an existing path.
    """
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
    """The path of published weights, downloaded with a warning where they are not cached: the file, or the folder.

    Raises `MaquetteError` where they are neither cached nor can be downloaded, and for a wrong SHA-256.
    """
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
                f"{detector} downloads its weights once, {published.megabytes} MB from {repository} "
                f"({published.licence}).",
                MaquetteWarning,
                stacklevel=2,
            )
        try:
            path = Path(hf_hub_download(repository, name, revision=revision))
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            raise MaquetteError(
                f"{detector} needs {name} of {repository} ({published.megabytes} MB, {published.licence}), which is "
                f"not in the Hub's cache and cannot be downloaded now. When online: {published.command}. Or pass a "
                "local copy as weights to maquette detect or maquette data annotate."
            ) from error
        _check(path, digest, name, repository)
        paths.append(path)
    return paths[0] if len(paths) == 1 else paths[0].parent


def _check(path: Path, digest: str | None, name: str, repository: str) -> None:
    if digest is None:
        return
    actual = file_hash(path)
    if actual != digest:
        path.resolve().unlink()
        raise MaquetteError(
            f"{name} of {repository} differs from the published file (SHA-256 {actual}, expected {digest}); "
            "it was removed. Try again, or pass a local copy as weights."
        )


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE") == "1")
