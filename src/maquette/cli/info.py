"""maquette info"""

from typing import Annotated

import typer

EXAMPLE = "maquette info control_v11p_sd15_canny.pth"


def run(
    names: Annotated[list[str], typer.Argument(metavar="WEIGHTS...", help="Files or folders; bundled or Hub names.")],
) -> None:
    """Describe a base or a ControlNet: family, slots, parameters, precision, and what it was trained on."""
    from maquette.checkpoints.names import check_weights

    for name in names:
        check_weights(name)
    from maquette.checkpoints.info import info

    print("\n\n".join(info(name) for name in names))
