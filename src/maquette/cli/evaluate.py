"""maquette evaluate"""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "maquette evaluate runs/canny --scenes 100"


def run(
    net: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or a bundled ControlNet: diorama/canny.")],
    scenes: Annotated[int, typer.Option(help="Unseen scenes.")] = 500,
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = 20,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance.")] = 4.0,
    batch_size: Annotated[int, typer.Option(help="Pictures at once.")] = 32,
    condition: Annotated[
        str | None, typer.Option(help="What it was trained on, where the folder does not say.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the report; without, the run's.")
    ] = None,
    base: Annotated[str, typer.Option(help="Base model that it steers.")] = "diorama",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
) -> None:
    """Measure a ControlNet's fidelity under true, default, no and conflicting prompts."""
    from maquette.base import load_base
    from maquette.checkpoints import load_controlnet
    from maquette.evaluation.controlnet import Protocol, evaluate_controlnet

    model = load_base(base, device, dtype)
    controlnet = load_controlnet(net, model)
    condition = condition or _condition(net)
    folder = output or (Path(net) if Path(net).is_dir() else Path("runs") / net.replace("/", "-"))
    protocol = Protocol(scenes, steps, guidance, batch_size)
    report = evaluate_controlnet(model, controlnet, condition, protocol, folder / "evaluation.png")
    report.save(folder / "evaluation.json")
    print(report.table())
    print(f"\nReport and pictures: {folder / 'evaluation.json'}, {folder / 'evaluation.png'}")


def _condition(net: str) -> str:
    from maquette.training.config import TrainingConfig
    from maquette.training.run import CONFIG

    if net.startswith("diorama/"):
        return net.removeprefix("diorama/")
    return TrainingConfig.load(Path(net) / CONFIG).condition
