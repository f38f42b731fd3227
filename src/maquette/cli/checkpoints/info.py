"""maquette info"""

from typing import Annotated

import typer

EXAMPLE = "maquette info control_v11p_sd15_canny.pth"


def run(
    names: Annotated[list[str], typer.Argument(metavar="WEIGHTS...", help="Files or folders; bundled or Hub names.")],
    prediction: Annotated[
        str | None, typer.Option(help="Of an SD 2.x base in one file: v_prediction or epsilon.")
    ] = None,
) -> None:
    """Describe a base or a ControlNet: family, slots, parameters, precision, and what it was trained on."""
    from maquette.checkpoints.names import check_weights
    from maquette.foundation.settings import check_prediction

    check_prediction(prediction)
    for name in names:
        check_weights(name)
    from maquette.checkpoints.info import info

    print("\n\n".join(info(name, prediction) for name in names))  # type: ignore[arg-type]
