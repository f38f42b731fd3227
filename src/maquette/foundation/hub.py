"""Files from the Hugging Face Hub, through its library: cached, retried and resumed."""

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from maquette.errors import MaquetteError

PATIENCE = 1.5  # seconds to connect to the Hub

_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def is_hub_id(name: str) -> bool:
    """Whether a name has the form org/name or org/name@revision."""
    return _ID.fullmatch(name) is not None


def require_repository(name: str, token: str | None = None) -> None:
    """Check within about a second, before anything is loaded, that a repository can be had from the cache or the Hub.

    Raises `MaquetteError` if it is not in the cache and the Hub does not have it or cannot be reached.
    """
    match = _ID.fullmatch(name)
    assert match is not None, f"{name} is not a name on the Hub"
    snapshots = Path(constants.HF_HUB_CACHE) / f"models--{match['id'].replace('/', '--')}" / "snapshots"
    if snapshots.is_dir() and any(snapshots.iterdir()):
        return
    try:
        HfApi().model_info(match["id"], revision=match["revision"], timeout=PATIENCE, token=token)
    except (HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise MaquetteError(f"{name!r} is no folder here, and cannot be had from the Hub ({reason}).") from error
    except Exception as error:  # the HTTP library's own, which differ between versions of huggingface_hub
        if type(error).__name__ == "ReadTimeout":  # it answers slowly: the download will tell
            return
        raise unreachable(name) from error


def unreachable(name: str) -> MaquetteError:
    """The error for a name that is neither in the cache nor can be asked for."""
    return MaquetteError(
        f"{name!r} is neither a folder here nor in the Hub's cache, and the Hub cannot be reached; "
        "go online once, or give a folder or file."
    )


def snapshot(name: str, include: Sequence[str], exclude: Sequence[str] = (), token: str | None = None) -> Path:
    """Download files of a repository on the Hub, and return its local folder; from the cache when offline.

    Args:
        name: org/name, or org/name@revision (a branch, a tag or a commit).
        include, exclude: glob patterns of the files to download.
        token: for private or gated repositories; by default the one of `hf auth login`.

    Raises `MaquetteError` if the repository cannot be downloaded, or when offline is not in the cache.
    """
    match = _ID.fullmatch(name)
    assert match is not None, f"{name} is not a name on the Hub"
    try:
        folder = snapshot_download(
            match["id"],
            revision=match["revision"],
            allow_patterns=list(include),
            ignore_patterns=list(exclude),
            token=token,
        )
    except LocalEntryNotFoundError as error:
        raise unreachable(name) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise MaquetteError(f"{name!r} cannot be downloaded from the Hub ({reason}).") from error
    return Path(folder)
