"""Where results go: names, numbers, and checks before anything is computed."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from maquette.errors import MaquetteError
from maquette.foundation.files import check_new, check_results, numbered
from maquette.sampling.metadata import FORMATS, files_of


def targets(output: Path | None, default: Path, count: int, overwrite: bool) -> list[Path]:
    """One path per result, numbered from 1 if there are several.

    A name that was typed is kept, and refused where it exists; a default name gets the next free number.

    Args:
        output: as typed; None for `default`.

    Raises `MaquetteError` for a path that cannot be written or exists already, and for an unknown format.
    """
    path = output or default
    if path.suffix.lower() not in FORMATS:
        raise MaquetteError(f"Results are {', '.join(FORMATS)} files, by the name's ending; {str(path)!r} is none.")
    if output is None and not overwrite:
        return check_targets(_free(path, count), overwrite)
    return check_targets([path] if count == 1 else _first(path, count), overwrite)


def targets_in(folder: Path | None, sources: Sequence[Path], count: int, overwrite: bool) -> list[list[Path]]:
    """`count` paths for each of several sources: PNG files in a folder, named after the source.

    Raises `MaquetteError` for a folder that is named like an image, and where `targets` does.
    """
    if folder is not None and folder.suffix.lower() in FORMATS:
        raise MaquetteError(f"The results of several images go to a folder; give --output FOLDER, not {str(folder)!r}.")
    root = folder or Path("generated")
    stems = [root / f"{source.stem}.png" for source in sources]
    twice = next((stem for number, stem in enumerate(stems) if stem in stems[:number]), None)
    if twice is not None:
        raise MaquetteError(f"Two results would be written to {str(twice)!r}; rename one of the images.")
    found = [targets(stem if folder else None, stem, count, overwrite) for stem in stems]
    check_targets([path for paths in found for path in paths], overwrite)
    return found


def check_targets(paths: list[Path], overwrite: bool) -> list[Path]:
    """The paths, checked with the files that are written beside them.

    Raises `MaquetteError` for a path that cannot be written, or exists already.
    """
    files = [file for path in paths for file in files_of(path)]
    check_results(files)
    if not overwrite:
        check_new(files)
    return paths


def _first(path: Path, count: int) -> list[Path]:
    return list(itertools.islice(numbered(path), count))


def _free(path: Path, count: int) -> list[Path]:
    """The path itself or its next number that is free; of several, the next numbers in a row."""
    if count == 1:
        return [next(one for one in itertools.chain([path], numbered(path, 2)) if _is_free(one))]
    skipped = next(n for n in itertools.count() if all(map(_is_free, itertools.islice(numbered(path), n, n + count))))
    return list(itertools.islice(numbered(path), skipped, skipped + count))


def _is_free(path: Path) -> bool:
    return not any(file.exists() for file in files_of(path))
