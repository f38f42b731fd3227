"""maquette convert"""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "maquette convert control_v11p_sd15_canny.pth runs/canny --to diffusers --verify"


def run(
    source: Annotated[str, typer.Argument(help="A ControlNet: bundled, a folder, a file, or on the Hub.")],
    target: Annotated[Path, typer.Argument(help="A folder for diffusers, a file for the others.")],
    to: Annotated[str, typer.Option(help="Format: diffusers, original or difference.")],
    base: Annotated[str | None, typer.Option(help="The base that a difference or Control-LoRA refers to.")] = None,
    heads: Annotated[
        int | None, typer.Option(min=1, help="Heads of each attention layer, of a file whose shapes do not tell.")
    ] = None,
    prediction: Annotated[
        str | None, typer.Option(help="Of an SD 2.x base in one file: v_prediction or epsilon; with --verify.")
    ] = None,
    verify: Annotated[bool, typer.Option(help="Run both on random inputs and print the largest difference.")] = False,
) -> None:
    """Write a ControlNet in another format, tensor by tensor."""
    from maquette.checkpoints.names import check_conversion
    from maquette.foundation.settings import check_prediction

    check_conversion(source, to, base)
    check_prediction(prediction)
    from maquette.checkpoints.convert import convert, largest_difference

    print(convert(source, target, to, base, heads))  # type: ignore[arg-type]
    if verify:
        difference = largest_difference(source, target, base, prediction=prediction)  # type: ignore[arg-type]
        print(f"largest difference of the residuals: {difference:g}")
