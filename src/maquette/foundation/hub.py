"""Files from the Hugging Face Hub, through its library: cached, retried and resumed."""

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from maquette.errors import MaquetteError

_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def is_hub_id(name: str) -> bool:
    """Whether a name has the form org/name or org/name@revision."""
    return _ID.fullmatch(name) is not None


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
        raise MaquetteError(
            f"{name!r} is neither a folder here nor in the Hub's cache, and the Hub cannot be reached; "
            "go online once, or give a folder or file."
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise MaquetteError(f"{name!r} cannot be downloaded from the Hub ({reason}).") from error
    return Path(folder)
