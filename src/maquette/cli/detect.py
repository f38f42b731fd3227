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
    from maquette.foundation.files import written_whole
    from maquette.foundation.images import open_picture
    from maquette.foundation.outputs import check_pngs

    options = dict(_parse(text) for text in option or [])
    targets = [output / f"{path.stem}-{detector}.png" for path in pictures]
    check_pngs(targets)
    maps = [detect(detector, open_picture(path), **options) for path in pictures]
    for shown, target in zip(maps, targets, strict=True):
        with written_whole(target) as temporary:
            shown.save(temporary, "PNG")
        print(target)


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
