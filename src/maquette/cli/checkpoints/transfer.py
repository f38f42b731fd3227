"""maquette transfer"""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "maquette transfer diorama/canny --from diorama --to runs/my-base -o runs/canny-for-my-base"


def run(
    net: Annotated[str, typer.Argument(help="A ControlNet: bundled, a folder, a file, or on the Hub.")],
    old: Annotated[str, typer.Option("--from", help="The base it was trained on.")],
    new: Annotated[str, typer.Option("--to", help="The base to transfer it to.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The new ControlNet's folder.")],
) -> None:
    """Transfer a ControlNet to another base of the same family, by adding the difference of the two bases."""
    from maquette.checkpoints.names import local_base, local_controlnet

    local_controlnet(net)
    for base in (old, new):
        local_base(base)
    from maquette.checkpoints.controlnets import find_controlnet
    from maquette.checkpoints.convert import transfer

    print(transfer(find_controlnet(net), old, new, output))
