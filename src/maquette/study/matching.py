"""Which images of several folders belong together: those of one name, or of one number."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from maquette.data.sources.folder import ENDINGS
from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown

MatchBy = Literal["name", "number"]


@dataclass(frozen=True)
class Item:
    """What all methods made of one condition: an image of each, in the order of the methods."""

    name: str
    images: tuple[Path, ...]
    condition: Path | None


def matched(methods: Mapping[str, Path], conditions: Path | None = None, by: MatchBy = "name") -> list[Item]:
    """The items of a study, in the order of their names or numbers.

    Args:
        methods: the folder with the images of each method.
        conditions: a folder with what the images were made from, or None.
        by: "name" joins files of one name, whatever their ending; "number" those with the same last number in the
            name, such as ours-07.png and out_7.jpg.

    Raises `MaquetteError` for a folder that is missing, holds no images, two of one name or number, or others than the
    first does.
    """
    if by not in get_args(MatchBy):
        raise MaquetteError(unknown("way to match images", by, get_args(MatchBy)))
    folders = [*methods.values(), *([conditions] if conditions else [])]
    found = [_images(folder, by) for folder in folders]
    for folder, images in zip(folders[1:], found[1:], strict=True):
        _check_same(folders[0], found[0], folder, images, by)
    names = sorted(found[0], key=lambda name: (len(name), name) if by == "number" else (0, name))
    last = found[-1] if conditions else {}
    return [Item(name, tuple(one[name] for one in found[: len(methods)]), last.get(name)) for name in names]


def _images(folder: Path, by: MatchBy) -> dict[str, Path]:
    """The images of a folder by name without ending, or by number."""
    if not folder.is_dir():
        raise MaquetteError(f"There is no folder {str(folder)!r}; give one with the images of a method.")
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in ENDINGS or path.name.startswith("."):
            continue
        key = path.stem if by == "name" else _number(path)
        if key in images:
            raise MaquetteError(f"{images[key].name!r} and {path.name!r} in {str(folder)!r} have one {by}; remove one.")
        images[key] = path
    if not images:
        raise MaquetteError(f"The folder {str(folder)!r} holds no images ({', '.join(ENDINGS)}).")
    return images


def _number(path: Path) -> str:
    """The last number in a file's name, without leading zeros."""
    numbers = re.findall(r"\d+", path.stem)
    if not numbers:
        raise MaquetteError(f"{str(path)!r} has no number in its name to be matched by; match by name instead.")
    return str(int(numbers[-1]))


def _check_same(folder: Path, images: Mapping[str, Path], other: Path, others: Mapping[str, Path], by: str) -> None:
    """Raises `MaquetteError` if two folders hold images of different names or numbers."""
    if not set(images) & set(others):
        advice = "; --by number matches files by the number in their names" if by == "name" else ""
        raise MaquetteError(
            f"No {by} of an image in {str(folder)!r} ({min(images)!r}) occurs in {str(other)!r} ({min(others)!r}): "
            f"images made from the same condition need the same {by}{advice}."
        )
    for here, those, there, these in ((folder, images, other, others), (other, others, folder, images)):
        missing = sorted(set(those) - set(these))
        if missing:
            more = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
            raise MaquetteError(
                f"{str(there)!r} has no image {missing[0]!r}{more}, which {str(here)!r} has; every method needs an "
                "image of each condition: generate it, or remove it from the others."
            )
