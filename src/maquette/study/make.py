"""Make a study: images without traces of their methods, a link and an order of questions for each rater."""

import os
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from maquette.errors import MaquetteError
from maquette.foundation.images import fit, open_image
from maquette.study.design import Design
from maquette.study.matching import Item, MatchBy, matched
from maquette.study.store import IMAGES, Rater, Store, StoredImage, create

RATERS = 12
MOST_RATERS = 10_000


def make(
    folder: Path,
    methods: Mapping[str, Path],
    design: Design,
    *,
    conditions: Path | None = None,
    raters: int | Sequence[str] = RATERS,
    by: MatchBy = "name",
    size: tuple[int, int] | None = None,
    seed: int | None = None,
) -> Store:
    """Make a study in a new folder.

    Args:
        folder: must not exist.
        methods: the folder with the images of each method, by the method's name.
        conditions: a folder with what the images were made from, shown where fidelity is judged.
        raters: their number, or their names, which only the report shows.
        by: how images of one item are found in the folders (`matching.matched`).
        size: (width, height) to which all images are scaled and cropped; by default they must have one size.
        seed: of all orders; by default drawn, so that nobody who knows this code can work them out.

    Raises `MaquetteError` for anything that such a study cannot be made of; then nothing is left behind.
    """
    if folder.exists():
        raise MaquetteError(f"{str(folder)!r} exists already, and a study is never overwritten; give another --output.")
    design.check(len(methods))
    _check_distinct(methods)
    names = _rater_names(raters)
    seed = secrets.randbits(32) if seed is None else seed
    if seed < 0:
        raise MaquetteError(f"seed is a whole number of 0 or more, not {seed}.")
    found = matched(methods, conditions, by)
    items = [found[place] for place in design.draw(len(found), seed)]
    facts = {
        "design": design.name,
        **asdict(design),
        "seed": seed,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "maquette": version("maquette"),
    }
    plans = {
        Rater(name, secrets.token_urlsafe(12)): design.plan(len(items), len(methods), conditions is not None, n, seed)
        for n, name in enumerate(names)
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        images = _write_images(items, temporary / IMAGES, size)
        create(temporary, facts, list(methods), [item.name for item in items], images, plans)
        temporary.chmod(0o755)  # mkdtemp's are private
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Store(folder)


def _check_distinct(methods: Mapping[str, Path]) -> None:
    seen: dict[Path, str] = {}
    for name, path in methods.items():
        if (other := seen.setdefault(path.resolve(), name)) != name:
            raise MaquetteError(f"The methods {other!r} and {name!r} have the same folder {str(path)!r}; give another.")


def _rater_names(raters: int | Sequence[str]) -> list[str]:
    count = raters if isinstance(raters, int) else len(raters)
    if not 1 <= count <= MOST_RATERS:
        raise MaquetteError(f"A study has 1 to {MOST_RATERS:,} raters, not {count}.")
    names = [str(number + 1) for number in range(count)] if isinstance(raters, int) else list(raters)
    bad = [name for name, times in Counter(names).items() if times > 1 or not name]
    if bad:
        raise MaquetteError(f"Every rater has a name of their own; {bad[0]!r} is not one. Name them apart.")
    return names


def _write_images(items: Sequence[Item], folder: Path, size: tuple[int, int] | None) -> list[StoredImage]:
    """Write every image anew under a random name: pixels alone, and all files of one length."""
    folder.mkdir()
    images = []
    common, first = size, None
    for number, item in enumerate(tqdm(items, desc="images", unit=" items", leave=False)):
        sources: list[tuple[int | None, Path]] = [*enumerate(item.images)]
        if item.condition:
            sources.append((None, item.condition))
        for method, source in sources:
            image = open_image(source)
            common, first = common or image.size, first or source
            if size is None and image.size != common:
                raise MaquetteError(
                    f"{str(first)!r} has {_sides(common)} pixels and {str(source)!r} {_sides(image.size)}, which would "
                    "give their methods away; give --size WIDTHxHEIGHT to scale all of them."
                )
            address = secrets.token_hex(12)
            pixels = fit(image, common)
            Image.frombytes("RGB", pixels.size, pixels.tobytes()).save(folder / f"{address}.png")  # nothing else of it
            images.append(StoredImage(address, number, method, str(source)))
    _lengthen(folder)
    return images


def _sides(size: tuple[int, int]) -> str:
    return "{}×{}".format(*size)


def _lengthen(folder: Path) -> None:
    """Zeros behind every image, up to the length of the longest; a PNG ends before them, whatever follows."""
    paths = list(folder.iterdir())
    longest = max(path.stat().st_size for path in paths)
    for path in paths:
        with path.open("r+b") as stream:
            stream.truncate(longest)
            os.fsync(stream.fileno())
