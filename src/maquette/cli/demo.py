"""maquette demo"""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = 'maquette demo photo.jpg --prompt "a red house in the snow" -o demo.png'


def run(
    image: Annotated[Path | None, typer.Argument(help="A photograph or drawing; default: a bundled drawing.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Replaces the first prompt for the image.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The contact sheet.")] = Path("demo.png"),
) -> None:
    """Three conditions with four prompts each, on one contact sheet: your image's edges, a scene's depth, a pose."""
    from maquette.foundation.files import check_pngs
    from maquette.foundation.images import open_image

    check_pngs([output])
    if image is not None:
        open_image(image)
    from maquette.recipes.demo import demo, describe

    print(describe(demo(image, prompt, output)))
