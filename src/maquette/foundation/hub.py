"""Files from the Hugging Face Hub, by its own library: its cache, its retries, its resumed downloads."""

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from maquette.errors import MaquetteError

_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def is_hub_id(name: str) -> bool:
    """Whether a name reads as org/name or org/name@revision."""
    return _ID.fullmatch(name) is not None


def snapshot(name: str, wanted: Sequence[str], unwanted: Sequence[str] = (), token: str | None = None) -> Path:
    """The folder of a repository on the Hub, of it the files that patterns want; from the cache when offline.

    Args:
        name: org/name, or org/name@revision (a branch, a tag or a commit).
        token: for what is not public; without it, the one that `hf auth login` keeps.
    """
    found = _ID.fullmatch(name)
    assert found is not None, f"{name} is no name on the Hub"
    try:
        folder = snapshot_download(
            found["id"],
            revision=found["revision"],
            allow_patterns=list(wanted),
            ignore_patterns=list(unwanted),
            token=token,
        )
    except LocalEntryNotFoundError as error:
        raise MaquetteError(
            f"{name!r} is neither a folder here nor in the Hub's cache, and the Hub cannot be reached; "
            "go online once, or give a folder or file."
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise MaquetteError(f"{name!r} cannot be had from the Hub ({reason}).") from error
    return Path(folder)
