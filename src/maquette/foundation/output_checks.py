"""Where results may be written, checked before anything is computed."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from maquette.errors import MaquetteError


def check_pngs(paths: Sequence[Path]) -> None:
    """Each path must name a PNG file of its own that can be written."""
    for path in paths:
        if path.suffix.lower() != ".png":
            raise MaquetteError(f"Results are PNG files, so that they keep what made them: {str(path)!r} is none.")
    check_results(paths)


def check_results(paths: Sequence[Path]) -> None:
    """Each path must name a file of its own that can be written."""
    twice = [str(path) for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise MaquetteError(f"Two results would be written to {twice[0]!r}; rename one of the images.")
    for path in paths:
        if path.is_dir():
            raise MaquetteError(f"{str(path)!r} is a folder; give the path of a file.")
        if not _first_existing(path.parent).is_dir():
            raise MaquetteError(f"{str(path)!r} cannot be written: {str(_first_existing(path.parent))!r} is a file.")


def _first_existing(folder: Path) -> Path:
    return next(one for one in (folder, *folder.parents) if one.exists())
