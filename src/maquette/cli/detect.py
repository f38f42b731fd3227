"""maquette detect"""

from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLE = "maquette detect canny photo.jpg -o maps --option low=80 --option high=160"


def run(
    detector: Annotated[str, typer.Argument(help="canny or scribble.")],
    pictures: Annotated[list[Path], typer.Argument(help="Photographs or drawings.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the maps.")],
    option: Annotated[list[str] | None, typer.Option(help="An option of the detector, as NAME=VALUE.")] = None,
) -> None:
    """Draw the condition map of pictures, each at its own size."""
    from maquette.conditions.detect import detect
    from maquette.errors import MaquetteError
    from maquette.foundation.files import written_whole
    from maquette.foundation.images import open_picture
    from maquette.foundation.outputs import check_pngs

    options = dict(_parse(text) for text in option or [])
    targets = [output / f"{path.stem}-{detector}.png" for path in pictures]
    check_pngs(targets)
    failed = []
    for path, target in zip(pictures, targets, strict=True):
        try:
            shown = detect(detector, open_picture(path), **options)
        except MaquetteError as error:
            failed.append(str(error))
            continue
        with written_whole(target) as temporary:
            shown.save(temporary, "PNG")
        print(target)
    if failed:
        count = f"{len(failed)} of {len(pictures)} pictures have no map. " if len(pictures) > 1 else ""
        raise MaquetteError(count + " ".join(dict.fromkeys(failed)))


def _parse(text: str) -> tuple[str, Any]:
    """NAME=VALUE, a whole number, a number or a word."""
    from maquette.errors import MaquetteError

    name, equals, value = text.partition("=")
    if not equals:
        raise MaquetteError(f"--option is NAME=VALUE, such as low=80, not {text!r}.")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    raise MaquetteError(f"The value of --option {name} is a number, not {value!r}.")
