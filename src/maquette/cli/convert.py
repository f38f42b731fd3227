"""maquette convert"""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "maquette convert control_v11p_sd15_canny.pth runs/canny --to diffusers --verify"


def run(
    source: Annotated[Path, typer.Argument(help="A ControlNet: a diffusers folder, or a file in any format.")],
    target: Annotated[Path, typer.Argument(help="A folder for diffusers, a file for the others.")],
    to: Annotated[str, typer.Option(help="Format: diffusers, original or difference.")],
    base: Annotated[str | None, typer.Option(help="The base that a difference or Control-LoRA refers to.")] = None,
    verify: Annotated[bool, typer.Option(help="Run both on random inputs and print the largest difference.")] = False,
) -> None:
    """Write a ControlNet in another format, tensor by tensor."""
    from maquette.checkpoints.names import check_conversion

    check_conversion(source, to, base)
    from maquette.checkpoints.convert import convert, largest_difference

    print(convert(source, target, to, base))  # type: ignore[arg-type]
    if verify:
        print(f"largest difference of the residuals: {largest_difference(source, target, base):g}")
